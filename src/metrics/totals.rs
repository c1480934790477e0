//! This file holds the counters that all commands add to, and reads them back from their own text.
//!
//! Numbers are kept as whole numbers, waits as microseconds, so that the order in which commands add does
//! not matter and nothing is lost to rounding.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};

use super::text::{counter, encode, family};
use crate::core::counts::{Done, RetryReason};

/// A counter, or several that differ in the value of one label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Allocation,
    AllocationErrors,
    Retries,
    Released,
    Cleaned,
}

impl Family {
    /// All families, in the order of the text.
    const ALL: [Self; 5] = [Self::Allocation, Self::AllocationErrors, Self::Retries, Self::Released, Self::Cleaned];

    fn name(self) -> &'static str {
        match self {
            Self::Allocation => "manage_ports_allocation_total",
            Self::AllocationErrors => "manage_ports_allocation_errors_total",
            Self::Retries => "manage_ports_retries_total",
            Self::Released => "manage_ports_released_total",
            Self::Cleaned => "manage_ports_cleaned_total",
        }
    }

    fn help(self) -> &'static str {
        match self {
            Self::Allocation => "Apps that were given ports, by whether the allocation was created or existing.",
            Self::AllocationErrors => "Commands that were to allocate ports and failed, by the kind of error.",
            Self::Retries => "Attempts at the database that were repeated, by reason.",
            Self::Released => "Allocations that were released.",
            Self::Cleaned => "Orphaned allocations that a cleanup removed.",
        }
    }

    fn label(self) -> Option<&'static str> {
        match self {
            Self::Allocation => Some("outcome"),
            Self::AllocationErrors => Some("kind"),
            Self::Retries => Some("reason"),
            Self::Released | Self::Cleaned => None,
        }
    }
}

const LOCK_WAIT: &str = "manage_ports_lock_wait_seconds";
const LOCK_WAIT_HELP: &str = "Time that a command waited for locks, for each command that took or awaited one.";

/// The upper bounds of the histogram of waits, in seconds.
const BOUNDS: [f64; 10] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0];

/// The greatest count. The text format tells numbers apart up to this one, as it knows floating-point numbers
/// alone.
const COUNT_MAX: u64 = 1 << 53;

/// The greatest sum of waits in microseconds, 35 years. In seconds it still has all its digits.
const MICROS_MAX: u64 = 1 << 50;

/// The first line of the text begins with this.
const FIRST: &str = "# HELP manage_ports_allocation_total ";

/// The beginning of the names of all metrics of this program.
const PREFIX: &str = "manage_ports_";

/// The counts of any number of commands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// The counters by their family and the value of their label, which is empty if there is no label.
    counters: BTreeMap<(Family, String), u64>,
    /// The number of waits up to each of the [`BOUNDS`] and above the bound before; the last is of longer
    /// ones.
    waits: [u64; BOUNDS.len() + 1],
    /// The sum of all waits, in microseconds.
    waited: u64,
}

/// What a file that should hold counters holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Counters.
    Totals(Totals),
    /// Nothing.
    Nothing,
    /// Counters of this program that are damaged.
    Damaged,
    /// Something that this program did not write.
    Foreign,
}

impl Totals {
    /// Returns the counts of one command, and of the error that ended it. `kinds` are all kinds of errors,
    /// which are counted from 0 on.
    pub(crate) fn of(done: &Done, error: Option<&str>, kinds: &[&str]) -> Self {
        let mut totals = Self::default();
        let mut add = |family, label: &str, count| {
            *totals.counters.entry((family, label.to_owned())).or_default() += count;
        };
        add(Family::Allocation, "created", done.created);
        add(Family::Allocation, "existing", done.existing);
        for kind in kinds.iter().copied().chain(error) {
            add(Family::AllocationErrors, kind, 0);
        }
        if let Some(kind) = error {
            add(Family::AllocationErrors, kind, 1);
        }
        for (reason, count) in RetryReason::ALL.into_iter().zip(done.retries) {
            add(Family::Retries, reason.name(), count);
        }
        add(Family::Released, "", done.released);
        add(Family::Cleaned, "", done.cleaned);
        if let Some(wait) = done.lock_wait {
            totals.add_wait(wait);
        }
        totals
    }

    fn add_wait(&mut self, wait: Duration) {
        let bucket = BOUNDS.iter().position(|bound| wait.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        self.waits[bucket] += 1;
        let micros = u64::try_from(wait.as_micros()).unwrap_or(MICROS_MAX);
        self.waited = self.waited.saturating_add(micros).min(MICROS_MAX);
    }

    /// Adds the counts of others.
    pub(crate) fn add(&mut self, other: &Self) {
        for (key, count) in &other.counters {
            let sum = self.counters.entry(key.clone()).or_default();
            *sum = sum.saturating_add(*count).min(COUNT_MAX);
        }
        for (sum, count) in self.waits.iter_mut().zip(other.waits) {
            *sum = sum.saturating_add(count).min(COUNT_MAX / 16);
        }
        self.waited = self.waited.saturating_add(other.waited).min(MICROS_MAX);
    }

    /// Tells whether nothing was counted.
    pub(crate) fn is_zero(&self) -> bool {
        self.counters.values().all(|count| *count == 0) && self.waits == [0; BOUNDS.len() + 1]
    }

    /// Writes the counters as text.
    ///
    /// # Errors
    ///
    /// Fails only if the encoder does.
    pub(crate) fn encode(&self) -> io::Result<String> {
        let of = |wanted: Family| {
            let counters = self.counters.iter().filter(move |((family, _), _)| *family == wanted);
            let samples = counters
                .map(move |((_, value), count)| counter(wanted.label().map(|name| (name, value.as_str())), *count));
            family(wanted.name(), wanted.help(), MetricType::COUNTER, samples)
        };
        encode(Family::ALL.into_iter().map(of).chain([self.histogram()]).collect())
    }

    fn histogram(&self) -> MetricFamily {
        let mut up_to = 0;
        let buckets = BOUNDS.iter().zip(self.waits).map(|(bound, count)| {
            up_to += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(up_to);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(self.waits.iter().sum());
        histogram.set_sample_sum(self.waited as f64 / 1e6);
        let mut metric = Metric::from_label(Vec::new());
        metric.set_histogram(histogram);
        family(LOCK_WAIT, LOCK_WAIT_HELP, MetricType::HISTOGRAM, [metric])
    }

    /// Reads what a file holds.
    pub(crate) fn read(content: &[u8]) -> Found {
        if let Some(totals) = str::from_utf8(content).ok().and_then(Self::parse) {
            return Found::Totals(totals);
        }
        let text = String::from_utf8_lossy(content);
        if content.iter().all(u8::is_ascii_whitespace) {
            return Found::Nothing;
        }
        // After a power failure, zero bytes may stand where the text was.
        let rest = text.trim_matches(['\0', ' ', '\n']);
        let is_cut_off = rest.is_empty() || rest.len() > "# HELP ".len() && FIRST.starts_with(rest);
        let is_ours = is_cut_off || rest.contains(FIRST);
        if is_ours && !rest.lines().any(is_sample_of_others) { Found::Damaged } else { Found::Foreign }
    }

    /// Reads counters back from their text. It must be exactly what [`Totals::encode`] writes, but for the
    /// words of the help, and for labels and counters that another version of this program has more or less.
    fn parse(text: &str) -> Option<Self> {
        let mut totals = Self::default();
        let mut up_to = 0;
        let mut bucket = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ')?;
            if let Some(part) = series.strip_prefix(LOCK_WAIT) {
                match part {
                    "_sum" => totals.waited = (value.parse::<f64>().ok()? * 1e6).round() as u64,
                    "_count" => {}
                    _ => {
                        let count = value.parse::<u64>().ok()?;
                        *totals.waits.get_mut(bucket)? = count.checked_sub(up_to)?;
                        up_to = count;
                        bucket += 1;
                    }
                }
                continue;
            }
            let (name, label) = series.split_once('{').map_or((series, None), |(name, label)| (name, Some(label)));
            let family = Family::ALL.into_iter().find(|family| family.name() == name)?;
            let label = match (family.label(), label) {
                (None, None) => "",
                (Some(name), Some(label)) => label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix("\"}")?,
                _ => return None,
            };
            if !label.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                return None;
            }
            let count = value.parse().ok().filter(|count| *count <= COUNT_MAX)?;
            totals.counters.insert((family, label.to_owned()), count);
        }
        // What was read is compared with the text, so that no mistake in it goes unseen.
        let without_help =
            |text: &str| text.split_inclusive('\n').filter(|line| !line.starts_with("# HELP ")).collect::<String>();
        let again = totals.encode().ok()?;
        // Without the counters of allocations, what is written would not be read again.
        (text.starts_with(FIRST) && again.starts_with(FIRST) && without_help(&again) == without_help(text))
            .then_some(totals)
    }
}

/// Tells whether a line is a sample of a metric that is not this program's.
fn is_sample_of_others(line: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let name = line.split(|c| !is_part(c)).next().unwrap_or_default();
    let value = line.rsplit(' ').next().unwrap_or_default();
    let has_name = name.starts_with(|c: char| !c.is_ascii_digit()) && line[name.len()..].starts_with([' ', '{']);
    has_name && value.parse::<f64>().is_ok() && !name.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [&str; 3] = ["usage", "exhausted", "locked"];

    fn any_done() -> impl Strategy<Value = Done> {
        let count = prop_oneof![Just(0), 0..1000_u64, 0..1_u64 << 40];
        let wait = prop::option::of((0..200_000_000_u64).prop_map(Duration::from_micros));
        ([count.clone(), count.clone(), count.clone(), count], [0..9_u64, 0..9, 0..9, 0..9, 0..9, 0..9], wait).prop_map(
            |([created, existing, released, cleaned], retries, lock_wait)| Done {
                created,
                existing,
                released,
                cleaned,
                retries,
                lock_wait,
            },
        )
    }

    fn any_totals() -> impl Strategy<Value = Totals> {
        let error = prop::option::of(prop::sample::select(&KINDS));
        prop::collection::vec((any_done(), error), 0..20).prop_map(|commands| {
            let mut totals = Totals::of(&Done::default(), None, &KINDS);
            for (done, error) in commands {
                totals.add(&Totals::of(&done, error, &KINDS));
            }
            totals
        })
    }

    fn text(totals: &Totals) -> String {
        totals.encode().unwrap()
    }

    #[test]
    fn a_file_that_lacks_its_first_counters_is_damaged() {
        let whole = text(&Totals::of(&Done::default(), None, &KINDS));
        let (_, rest) = whole.split_once("# HELP manage_ports_lock_wait_seconds").unwrap();
        let histogram = format!("{FIRST}Apps.\n# HELP manage_ports_lock_wait_seconds{rest}");
        assert_eq!(Totals::read(histogram.as_bytes()), Found::Damaged);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(totals in any_totals()) {
            prop_assert_eq!(Totals::read(text(&totals).as_bytes()), Found::Totals(totals));
        }

        #[test]
        fn the_order_in_which_commands_add_does_not_matter(a in any_totals(), b in any_totals(), c in any_totals()) {
            let sum = |parts: [&Totals; 3]| {
                let mut sum = Totals::default();
                parts.into_iter().for_each(|part| sum.add(part));
                sum
            };
            let all = sum([&a, &b, &c]);
            prop_assert_eq!(&sum([&c, &b, &a]), &all);
            // It is the same if the counts go through the file in between.
            let Found::Totals(mut through) = Totals::read(text(&sum([&a, &b, &Totals::default()])).as_bytes()) else {
                panic!("not read back");
            };
            through.add(&c);
            prop_assert_eq!(&through, &all);
        }

        #[test]
        fn a_file_that_was_cut_off_is_damaged(totals in any_totals(), at in any::<prop::sample::Index>()) {
            let text = text(&totals);
            let cut = &text[..at.index(text.len())];
            // A few bytes may be anybody's.
            prop_assume!(cut.len() > "# HELP ".len());
            prop_assert_eq!(Totals::read(cut.as_bytes()), Found::Damaged);
        }

        #[test]
        fn a_byte_that_flips_is_never_read_as_if_nothing_were(
            totals in any_totals(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut bytes = text(&totals).into_bytes();
            let at = at.index(bytes.len());
            let line_start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            prop_assume!(bytes[at] != byte && !bytes[line_start..].starts_with(b"# HELP"));
            bytes[at] = byte;
            match Totals::read(&bytes) {
                // One digit may stand for another.
                Found::Totals(other) => prop_assert_eq!(text(&other).into_bytes(), bytes),
                Found::Damaged | Found::Foreign => {}
                Found::Nothing => panic!("it is not empty"),
            }
        }

        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(!matches!(Totals::read(&bytes), Found::Totals(_)));
        }
    }

    #[test]
    fn the_text_has_every_series_from_the_first_command_on() {
        let mut done = Done { created: 2, existing: 1, ..Done::default() };
        done.add_retry(RetryReason::Conflict);
        done.add_lock_wait(Duration::from_micros(2500));
        insta::assert_snapshot!("totals", text(&Totals::of(&done, Some("locked"), &KINDS)));
    }

    #[test]
    fn waits_are_counted_up_to_and_with_the_bound() {
        let mut totals = Totals::default();
        for millis in [0, 1, 2, 30_000, 30_001, 90_000] {
            totals.add_wait(Duration::from_millis(millis));
        }
        assert_eq!((totals.waits[0], totals.waits[1], totals.waits[9], totals.waits[10]), (2, 1, 1, 2));
        assert_eq!(totals.waited, 150_004_000);
        assert!(text(&totals).ends_with("_bucket{le=\"+Inf\"} 6\nmanage_ports_lock_wait_seconds_sum 150.004\nmanage_ports_lock_wait_seconds_count 6\n"));
    }

    #[test]
    fn whose_a_file_is_can_be_told() {
        let ours = text(&Totals::of(&Done::default(), None, &KINDS));
        for (content, expected) in [
            ("", Found::Nothing),
            (" \n\n", Found::Nothing),
            ("\0\0\0", Found::Damaged),
            ("# HELP manage_", Found::Damaged),
            (&format!("\0\0\0{ours}"), Found::Damaged),
            (&format!("{ours}manage_ports_released_total 5\n"), Found::Damaged),
            (&ours.replace("released_total 0", "released_total -1"), Found::Damaged),
            (&ours.replace("released_total 0", "released_total NaN"), Found::Damaged),
            (&ours.replace("_count 0", "_count 1"), Found::Damaged),
            (&ours.replace("# TYPE manage_ports_released_total counter\n", ""), Found::Damaged),
            // Somebody else's lines would be lost.
            (&format!("{ours}node_load1 0.5\n"), Found::Foreign),
            (&format!("node_load1{{a=\"b\"}} 0.5\n{ours}"), Found::Foreign),
            ("# HELP node_load1 Load.\n# TYPE node_load1 gauge\nnode_load1 0.5\n", Found::Foreign),
            ("DATABASE_URL=x\n", Found::Foreign),
            // So is what `metrics` prints.
            ("# HELP manage_ports_allocations x\nmanage_ports_allocations{model=\"m\"} 1\n", Found::Foreign),
        ] {
            assert_eq!(Totals::read(content.as_bytes()), expected, "{content}");
        }
        // Another version may use other words, and have counted what this one does not know, or less.
        let theirs = ours.replace("that were released.", "released, in all.");
        let theirs = theirs.replace("kind=\"usage\"", "kind=\"newer\"").replace(
            "manage_ports_allocation_errors_total{kind=\"locked\"} 0\nmanage_ports_allocation_errors_total{kind=\"newer\"} 0",
            "manage_ports_allocation_errors_total{kind=\"newer\"} 7",
        );
        let Found::Totals(read) = Totals::read(theirs.as_bytes()) else { panic!("{theirs}") };
        assert_eq!(read.counters[&(Family::AllocationErrors, "newer".to_owned())], 7);
    }
}
