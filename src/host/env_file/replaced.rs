//! Says when a replacement is made durable, and how it ended.

/// The result of an attempt to replace a file.
pub(super) enum Replaced {
    /// The file is replaced. Lines that others added to the old one meanwhile are in the new one.
    Yes,
    /// The file is replaced, but another program wrote other bytes to the old one meanwhile.
    Overtaken {
        /// What the new file holds.
        written: Vec<u8>,
        /// What the other program wrote.
        theirs: Vec<u8>,
    },
    /// Another program changed the file meanwhile, and its version stays.
    Changed,
    /// The new file would lack something that the old one has; nothing was changed.
    Not,
}

/// The time at which the new file is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// Before it takes the old one's place: a power cut leaves the old file or the new one.
    Before,
    /// Afterwards, for files that other programs replace again and again before a disk can follow. The old
    /// file is not removed until then.
    After,
}
