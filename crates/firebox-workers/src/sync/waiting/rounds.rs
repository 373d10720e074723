//! Rounds of a barrier, each of which ends well when all parties have come, or is broken.

/// A barrier's numbers, as they are under its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Rounds {
    pub(in crate::sync) parties: u64,
    /// The number of the round that parties come to.
    pub(in crate::sync) number: u64,
    /// How many have come.
    pub(in crate::sync) arrived: u64,
    /// True if nobody passes until somebody resets it.
    pub(in crate::sync) is_broken: bool,
    /// True if each of the last 64 rounds ended well; that of number n stands in bit n modulo 64, so that
    /// writing it twice is writing it once.
    pub(in crate::sync) endings: u64,
}

/// A party's place in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Ticket {
    round: u64,
    place: u64,
}

/// The round was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sync) struct Broken;

impl Rounds {
    /// A party comes. The last one ends the round.
    pub(in crate::sync) fn arrive(&mut self) -> Result<Ticket, Broken> {
        if self.is_broken {
            return Err(Broken);
        }
        let ticket = Ticket { round: self.number, place: self.arrived };
        self.arrived += 1;
        if self.arrived >= self.parties {
            self.end(true);
        }
        Ok(ticket)
    }

    /// The end of a party's round, with the place that it had in it; `None` if it goes on.
    pub(in crate::sync) fn outcome(&self, ticket: Ticket) -> Option<Result<u64, Broken>> {
        match self.number.wrapping_sub(ticket.round) {
            0 => self.is_broken.then_some(Err(Broken)),
            // A round that has ended well has, whatever came after it.
            1..=64 if self.endings >> (ticket.round % 64) & 1 == 1 => Some(Ok(ticket.place)),
            // Nobody sleeps through 64 rounds that need it, unless others come in its place.
            _ => Some(Err(Broken)),
        }
    }

    /// A party has lost patience. If its round goes on, that breaks it.
    pub(in crate::sync) fn give_up(&mut self, ticket: Ticket) {
        if self.outcome(ticket).is_none() {
            self.break_now();
        }
    }

    /// Nobody passes any more.
    pub(in crate::sync) fn break_now(&mut self) {
        self.is_broken = true;
    }

    /// Everybody passes again; who waits doesn't.
    pub(in crate::sync) fn reset(&mut self) {
        self.end(false);
        self.is_broken = false;
    }

    fn end(&mut self, well: bool) {
        let bit = self.number % 64;
        self.endings = self.endings & !(1 << bit) | u64::from(well) << bit;
        self.number = self.number.wrapping_add(1);
        self.arrived = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A barrier as one would draw it: who waits together, and what was decided for whom.
    #[derive(Clone)]
    struct Drawn {
        rounds: Rounds,
        is_broken: bool,
        /// Who waits in the present round.
        waiting: Vec<usize>,
        /// A party that has come and not looked yet: its ticket, and what has to come of it, if that is
        /// decided.
        parties: [Option<(Ticket, Option<bool>)>; 3],
    }

    impl Drawn {
        fn decide(&mut self, well: bool) {
            for party in self.waiting.drain(..) {
                if let Some((_, outcome)) = &mut self.parties[party] {
                    *outcome = Some(well);
                }
            }
        }

        /// Does one step; `false` if it is none for now.
        fn step(&mut self, step: usize) -> bool {
            let (party, kind) = (step % 3, step / 3);
            match (kind, self.parties[party]) {
                // It comes.
                (0, None) => match self.rounds.arrive() {
                    Ok(ticket) => {
                        assert!(!self.is_broken);
                        self.parties[party] = Some((ticket, None));
                        self.waiting.push(party);
                        if self.waiting.len() as u64 == self.rounds.parties {
                            self.decide(true);
                        }
                    }
                    Err(Broken) => assert!(self.is_broken),
                },
                // It looks, and goes if it may.
                (1, Some((ticket, outcome))) => {
                    let seen = self.rounds.outcome(ticket);
                    assert_eq!(seen.map(|seen| seen.is_ok()), outcome, "party {party} of {:?}", self.rounds);
                    if outcome.is_none() {
                        return false;
                    }
                    self.parties[party] = None;
                }
                // It loses patience.
                (2, Some((ticket, outcome))) => {
                    self.rounds.give_up(ticket);
                    if outcome.is_none() {
                        self.is_broken = true;
                        self.decide(false);
                    }
                }
                (3, _) if party == 0 => {
                    self.rounds.break_now();
                    self.is_broken = true;
                    self.decide(false);
                }
                (3, _) if party == 1 => {
                    self.rounds.reset();
                    self.is_broken = false;
                    self.decide(false);
                }
                _ => return false,
            }
            assert_eq!(self.rounds.is_broken, self.is_broken);
            true
        }

        fn explore(&self, depth: usize, seen: &mut u64) {
            *seen += 1;
            for step in (0..12).filter(|_| depth > 0) {
                let mut next = self.clone();
                if next.step(step) {
                    next.explore(depth - 1, seen);
                }
            }
        }
    }

    #[test]
    fn every_party_hears_what_became_of_its_round_in_every_order_of_steps() {
        for (parties, number) in [(1, 0), (2, 0), (3, 0), (2, 62), (2, u64::MAX)] {
            let rounds = Rounds { parties, number, arrived: 0, is_broken: false, endings: 0 };
            let drawn = Drawn { rounds, is_broken: false, waiting: Vec::new(), parties: [None; 3] };
            let mut seen = 0;
            drawn.explore(7, &mut seen);
            assert!(seen > 10_000, "{seen} of {parties}");
        }
    }

    #[test]
    fn the_places_of_a_round_are_all_different() {
        let mut rounds = Rounds { parties: 5, number: 0, arrived: 0, is_broken: false, endings: 0 };
        for round in 0..200 {
            let tickets: Vec<Ticket> = (0..5).map(|_| rounds.arrive().unwrap()).collect();
            assert_eq!(rounds.number, round + 1);
            let places: Vec<u64> =
                tickets.iter().map(|&ticket| rounds.outcome(ticket).unwrap().unwrap()).collect();
            assert_eq!(places, [0, 1, 2, 3, 4]);
        }
    }
}
