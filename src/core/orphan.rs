//! Which rows a cleanup removes, and why it keeps a row that has no directory.

use jiff::{SignedDuration, Timestamp};

use super::allocation::Allocation;
use super::app::{AppId, Presence};
use super::listener::Listeners;

/// Why a cleanup keeps a row that it cannot show to be in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptReason {
    /// It is held for a planned app.
    Reserved,
    /// It is younger than the age asked for, or its age is not known.
    TooRecent,
    /// Something listens on one of its ports.
    Listening,
    /// What stands at its app's directory could not be read.
    Unreadable,
    /// It is no longer as it was when its directory was looked at.
    Changed,
}

impl KeptReason {
    /// The reason's name in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::TooRecent => "too_recent",
            Self::Listening => "listening",
            Self::Unreadable => "unreadable",
            Self::Changed => "changed",
        }
    }
}

/// A row that a cleanup kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Whose row it is.
    pub(crate) app: AppId,
    /// Why it was kept.
    pub(crate) reason: KeptReason,
    /// The same in words, with what was seen.
    pub(crate) why: String,
}

/// What a cleanup does with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its app is there.
    InUse,
    /// It is removed.
    Orphan,
    /// It is kept although its app was not seen.
    Kept(KeptReason),
}

/// Judges one row by what stands at its app's directory and who listens on its ports.
///
/// With a `min_age`, a row made less than that before `now` is kept, and so is one that does not
/// say when it was made.
pub(crate) fn judge(
    row: &Allocation,
    presence: &Presence,
    listeners: &Listeners,
    now: Timestamp,
    min_age: Option<SignedDuration>,
) -> Verdict {
    if *presence == Presence::Present {
        return Verdict::InUse;
    }
    if row.is_reserved(now) {
        return Verdict::Kept(KeptReason::Reserved);
    }
    if let Presence::Unreadable(_) = presence {
        return Verdict::Kept(KeptReason::Unreadable);
    }
    let is_old_enough =
        |min_age| row.created_at.or(row.updated_at).is_some_and(|made| now.duration_since(made) >= min_age);
    if !min_age.is_none_or(is_old_enough) {
        return Verdict::Kept(KeptReason::TooRecent);
    }
    if listeners.of(row).next().is_some() { Verdict::Kept(KeptReason::Listening) } else { Verdict::Orphan }
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::row;
    use super::super::listener::Listener;
    use super::*;

    #[test]
    fn nothing_is_removed_on_a_guess() {
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let hour = Some(SignedDuration::from_hours(1));
        let mut seen = row(1, "m", 1, 5001, 8001);
        let kept = Verdict::Kept;
        let judge = |row: &_, presence: &_, now, min_age| judge(row, presence, &Listeners::default(), now, min_age);

        assert_eq!(judge(&seen, &Presence::Present, now, None), Verdict::InUse);
        assert_eq!(judge(&seen, &Presence::Absent, now, None), Verdict::Orphan);
        assert_eq!(judge(&seen, &Presence::Unreadable("?".into()), now, None), kept(KeptReason::Unreadable));
        assert_eq!(judge(&seen, &Presence::Absent, now, hour), kept(KeptReason::TooRecent), "age unknown");

        seen.created_at = Some("2026-01-01T09:00:00Z".parse().unwrap());
        assert_eq!(judge(&seen, &Presence::Absent, now, hour), Verdict::Orphan);
        seen.created_at = Some("2026-01-01T09:00:00.000001Z".parse().unwrap());
        assert_eq!(judge(&seen, &Presence::Absent, now, hour), kept(KeptReason::TooRecent));
        assert_eq!(judge(&seen, &Presence::Absent, now, None), Verdict::Orphan);

        seen.metadata = Some(r#"{"reserved_until":"2026-01-01T10:00:01Z"}"#.into());
        assert_eq!(judge(&seen, &Presence::Absent, now, None), kept(KeptReason::Reserved));
        assert_eq!(judge(&seen, &Presence::Unreadable("?".into()), now, None), kept(KeptReason::Reserved));
        assert_eq!(judge(&seen, &Presence::Present, now, None), Verdict::InUse);
    }

    #[test]
    fn an_orphan_whose_port_is_listened_on_is_kept() {
        let now: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        let listeners = |port| [(port, Listener::default())].into_iter().collect();
        let verdict =
            |presence: Presence, port| judge(&row(1, "m", 1, 5001, 8001), &presence, &listeners(port), now, None);
        for port in [5001, 8001] {
            assert_eq!(verdict(Presence::Absent, port), Verdict::Kept(KeptReason::Listening));
            assert_eq!(verdict(Presence::Present, port), Verdict::InUse);
        }
        assert_eq!(verdict(Presence::Absent, 5002), Verdict::Orphan);
    }
}
