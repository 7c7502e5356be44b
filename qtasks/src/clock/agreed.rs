//! [`Agreed`]: the rule by which a store keeps its time when the wall clock jumps. Pure: no clock, no input or output.
//!
//! Invariant: the time of a store is the steady clock plus an offset. The wall clock moves the offset slowly while both
//! are close. A wall clock that jumped moves it only after the difference has lasted, and no process confirmed the old
//! offset in the meantime. Everything here is in microseconds.

use std::time::Duration;

/// The largest difference between the wall clock and the time of a store that is followed without a jump.
const NEAR: i64 = 1_000_000;

/// The shortest time that a larger difference must last before the store adopts it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long retention waits after a jump: nothing is deleted by a clock that may be wrong.
pub(crate) const SETTLING: Duration = Duration::from_secs(5 * 60);

/// The wall clock and the steady clock of a machine at one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// Identifies the boot whose steady clock this is; 0 where the steady clock is that of one process only.
    pub(crate) boot: u64,
    /// Time since 1970.
    pub(crate) wall: i64,
    /// Time since the boot.
    pub(crate) steady: i64,
}

impl Reading {
    /// How far the wall clock is ahead of the steady clock.
    pub(crate) fn offset(&self) -> i64 {
        self.wall.saturating_sub(self.steady)
    }
}

/// The offset of a store's time, and how the processes that share the store came to it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Agreed {
    /// Hash of the boot and the offset. An offset of another boot, or a damaged one, does not match.
    pub(crate) mark: i64,
    /// How far the time of the store is ahead of the steady clock.
    pub(crate) offset: i64,
    /// The last time, by the steady clock, at which the wall clock of some process agreed.
    pub(crate) confirmed: i64,
    /// The last time, by the steady clock, at which the store's time jumped.
    pub(crate) jumped: Option<i64>,
    /// The difference that a process has seen last, unless another agreed since. Processes that live for less than the
    /// patience would else never adopt a wall clock.
    pub(crate) apart: Option<Apart>,
}

/// A difference between the wall clock and the time of a store, and since when by the steady clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Apart {
    pub(crate) by: i64,
    pub(crate) since: i64,
}

impl Apart {
    fn is_by(&self, by: i64) -> bool {
        self.by.saturating_sub(by).saturating_abs() <= NEAR
    }
}

/// Result of comparing the wall clock of a process with the time of the store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Look {
    /// Both agree.
    Near,
    /// The wall clock is ahead by this; the store keeps its time. `first` until the difference has been told.
    Apart { by: i64, first: bool },
    /// The store took over the time of the wall clock, which was ahead by this.
    Adopted { by: i64 },
}

fn mark(boot: u64, offset: i64) -> i64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&boot.to_le_bytes());
    bytes[8..].copy_from_slice(&offset.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes).cast_signed()
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl Agreed {
    /// An offset that begins now.
    pub(crate) fn begin(offset: i64, reading: &Reading) -> Self {
        Agreed { mark: mark(reading.boot, offset), offset, confirmed: reading.steady, jumped: None, apart: None }
    }

    /// Whether the offset belongs to the steady clock of a reading.
    pub(crate) fn is_of(&self, reading: &Reading) -> bool {
        self.mark == mark(reading.boot, self.offset)
    }

    /// Compares the wall clock with the time of the store, and moves the offset as the rule allows.
    ///
    /// Confirms the offset, and moves it by at most a tenth of the time since the last confirmation, if both are close.
    /// Adopts the wall clock if it has been ahead by the same amount for `patience`, and nobody confirmed for as long.
    pub(crate) fn look(&mut self, reading: &Reading, apart: &mut Option<Apart>, patience: Duration) -> Look {
        let now = reading.steady;
        // A confirmation in the future is damage.
        let confirmed = Some(self.confirmed).filter(|at| *at <= now);
        let by = reading.offset().saturating_sub(self.offset);
        if by.saturating_abs() <= NEAR {
            let most = confirmed.map_or(NEAR, |at| (now - at) / 10);
            self.move_to(self.offset.saturating_add(by.clamp(-most, most)), reading);
            *apart = None;
            return Look::Near;
        }
        let first = apart.is_none();
        let seen = apart.get_or_insert(Apart { by, since: now });
        if !seen.is_by(by) {
            *seen = Apart { by, since: now };
        }
        match self.apart.filter(|shared| shared.is_by(by) && shared.since <= now) {
            Some(shared) => seen.since = seen.since.min(shared.since),
            None => self.apart = Some(*seen),
        }
        let since = confirmed.map_or(seen.since, |at| at.max(seen.since));
        if now.saturating_sub(since) < micros(patience.max(PATIENCE)) {
            return Look::Apart { by, first };
        }
        self.move_to(reading.offset(), reading);
        self.jumped = Some(now);
        *apart = None;
        Look::Adopted { by }
    }

    fn move_to(&mut self, offset: i64, reading: &Reading) {
        *self = Agreed { jumped: self.jumped, ..Agreed::begin(offset, reading) };
    }

    /// Whether the time jumped so recently that nothing is to be deleted by it.
    pub(crate) fn is_settling(&self, reading: &Reading) -> bool {
        let since = self.jumped.and_then(|at| reading.steady.checked_sub(at));
        since.is_some_and(|since| (0..micros(SETTLING)).contains(&since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const DAY: i64 = 86_400 * SECOND;
    const START: i64 = 1_700_000_000 * SECOND;

    /// A machine that booted at `START`.
    struct Machine {
        steady: i64,
        ahead: i64,
        boot: u64,
    }

    impl Machine {
        fn new() -> Self {
            Machine { steady: 100 * SECOND, ahead: 0, boot: 7 }
        }

        fn reading(&self) -> Reading {
            Reading { boot: self.boot, wall: START + self.steady + self.ahead, steady: self.steady }
        }
    }

    fn now(agreed: &Agreed, machine: &Machine) -> i64 {
        machine.steady + agreed.offset - START
    }

    #[test]
    fn a_jump_that_does_not_last_is_never_seen() {
        for jump in [DAY, -DAY, 8 * DAY, -2 * SECOND, 2 * SECOND, i64::MAX / 4] {
            let mut machine = Machine::new();
            let (mut agreed, mut apart) = (Agreed::begin(START, &machine.reading()), None);
            for second in 0..60 {
                machine.steady += SECOND;
                machine.ahead = if (20..29).contains(&second) { jump } else { 0 };
                let look = agreed.look(&machine.reading(), &mut apart, Duration::ZERO);
                assert_eq!(matches!(look, Look::Apart { .. }), machine.ahead != 0);
                assert_eq!(matches!(look, Look::Apart { first: true, .. }), second == 20);
                assert_eq!(now(&agreed, &machine), machine.steady, "{jump} at {second}");
            }
            assert_eq!(agreed.jumped, None);
        }
    }

    #[test]
    fn a_jump_that_lasts_is_adopted_after_patience() {
        for (jump, patience) in [(DAY, 0), (-DAY, 0), (8 * DAY, 30), (-2 * SECOND, 5)] {
            let mut machine = Machine::new();
            let (mut agreed, mut apart) = (Agreed::begin(START, &machine.reading()), None);
            machine.ahead = jump;
            let mut waited = 0;
            while agreed.look(&machine.reading(), &mut apart, Duration::from_secs(patience))
                != (Look::Adopted { by: jump })
            {
                machine.steady += SECOND;
                waited += 1;
            }
            assert_eq!(waited, patience.max(10));
            assert_eq!(now(&agreed, &machine), machine.steady + jump);
            assert!(agreed.is_settling(&machine.reading()));
            machine.steady += 300 * SECOND;
            assert!(!agreed.is_settling(&machine.reading()));
            assert_eq!(agreed.look(&machine.reading(), &mut apart, Duration::ZERO), Look::Near);
        }
    }

    #[test]
    fn a_clock_that_jumps_all_the_time_is_not_adopted() {
        let mut machine = Machine::new();
        let (mut agreed, mut apart) = (Agreed::begin(START, &machine.reading()), None);
        for second in 0..1_000 {
            machine.steady += SECOND;
            machine.ahead = if second % 9 == 0 { machine.ahead * -3 % DAY + 5 * SECOND } else { machine.ahead };
            agreed.look(&machine.reading(), &mut apart, Duration::ZERO);
        }
        assert_eq!((agreed.offset, agreed.jumped), (START, None));
    }

    #[test]
    fn a_process_whose_clock_is_far_off_follows_the_others() {
        let mut machine = Machine::new();
        let mut agreed = Agreed::begin(START, &machine.reading());
        let (mut right, mut wrong) = (None, None);
        for _ in 0..1_000 {
            machine.steady += SECOND;
            machine.ahead = DAY;
            assert!(matches!(agreed.look(&machine.reading(), &mut wrong, Duration::ZERO), Look::Apart { .. }));
            machine.ahead = 0;
            assert_eq!(agreed.look(&machine.reading(), &mut right, Duration::ZERO), Look::Near);
        }
        // The others are gone.
        machine.ahead = DAY;
        for _ in 0..10 {
            assert!(matches!(agreed.look(&machine.reading(), &mut wrong, Duration::ZERO), Look::Apart { .. }));
            machine.steady += SECOND;
        }
        assert_eq!(agreed.look(&machine.reading(), &mut wrong, Duration::ZERO), Look::Adopted { by: DAY });
    }

    #[test]
    fn processes_that_live_for_a_second_adopt_a_wall_clock_that_stays() {
        let mut machine = Machine::new();
        let mut agreed = Agreed::begin(START, &machine.reading());
        machine.ahead = DAY;
        for second in 0..10 {
            let look = agreed.look(&machine.reading(), &mut None, Duration::ZERO);
            assert_eq!(look, Look::Apart { by: DAY, first: true }, "{second}");
            machine.steady += SECOND;
        }
        assert_eq!(agreed.look(&machine.reading(), &mut None, Duration::ZERO), Look::Adopted { by: DAY });
    }

    #[test]
    fn a_small_difference_is_followed_at_a_tenth_of_the_time() {
        let mut machine = Machine::new();
        let (mut agreed, mut apart) = (Agreed::begin(START, &machine.reading()), None);
        machine.ahead = SECOND / 2;
        for second in 1..=10 {
            machine.steady += SECOND;
            assert_eq!(agreed.look(&machine.reading(), &mut apart, Duration::ZERO), Look::Near);
            assert_eq!(agreed.offset - START, (second * SECOND / 10).min(machine.ahead));
        }
    }

    #[test]
    fn an_offset_of_another_boot_or_a_damaged_one_does_not_match() {
        let machine = Machine::new();
        let agreed = Agreed::begin(START, &machine.reading());
        assert!(agreed.is_of(&machine.reading()));
        assert!(!agreed.is_of(&Machine { boot: 8, ..machine }.reading()));
        assert!(!Agreed { offset: START + 1, ..agreed }.is_of(&Machine::new().reading()));
        assert!(!Agreed::default().is_of(&Machine::new().reading()));
    }

    #[test]
    fn a_confirmation_from_the_future_counts_for_nothing() {
        let mut machine = Machine::new();
        let mut agreed =
            Agreed { confirmed: i64::MAX, jumped: Some(i64::MAX), ..Agreed::begin(START, &machine.reading()) };
        assert!(!agreed.is_settling(&machine.reading()));
        let mut apart = None;
        machine.ahead = -DAY;
        agreed.look(&machine.reading(), &mut apart, Duration::ZERO);
        machine.steady += 10 * SECOND;
        assert_eq!(agreed.look(&machine.reading(), &mut apart, Duration::ZERO), Look::Adopted { by: -DAY });
        assert_eq!(agreed.confirmed, machine.steady);
    }
}
