//! The faults that are placed, and which call gets one.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Extent, HttpFault};

/// Placed faults, in the order of their placing.
#[derive(Debug, Default)]
pub(super) struct Plan {
    placed: Vec<Placed>,
}

#[derive(Debug)]
struct Placed {
    action: String,
    fault: HttpFault,
    remaining: Remaining,
}

#[derive(Debug)]
enum Remaining {
    Calls(u64),
    All,
    Random { probability: f64, numbers: Box<StdRng> },
}

impl Plan {
    pub(super) fn add(&mut self, action: &str, fault: HttpFault, extent: Extent) {
        let remaining = match extent {
            Extent::Next(calls) => Remaining::Calls(calls),
            Extent::UntilCleared => Remaining::All,
            Extent::Randomly { probability, seed } => {
                Remaining::Random { probability: probability.clamp(0.0, 1.0), numbers: Box::new(StdRng::seed_from_u64(seed)) }
            }
        };
        self.placed.push(Placed { action: action.to_owned(), fault, remaining });
    }

    /// The fault of the next call of `action`; uses it up.
    pub(super) fn fault(&mut self, action: &str) -> Option<HttpFault> {
        let placed = self.placed.iter_mut().filter(|placed| placed.action == action || placed.action == "*");
        placed.into_iter().find_map(|placed| placed.remaining.take().then(|| placed.fault.clone()))
    }
}

impl Remaining {
    fn take(&mut self) -> bool {
        match self {
            Self::Calls(0) => false,
            Self::Calls(calls) => {
                *calls -= 1;
                true
            }
            Self::All => true,
            Self::Random { probability, numbers } => numbers.random_bool(*probability),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(plan: &mut Plan, calls: usize) -> Vec<bool> {
        (0..calls).map(|_| plan.fault("SendMessage").is_some()).collect()
    }

    #[test]
    fn the_same_seed_chooses_the_same_calls_about_as_often_as_the_probability_says() {
        let choose = |seed| {
            let mut plan = Plan::default();
            plan.add("SendMessage", HttpFault::ReplyLost, Extent::Randomly { probability: 0.3, seed });
            hits(&mut plan, 1000)
        };
        assert_eq!(choose(7), choose(7));
        assert_ne!(choose(7), choose(8));
        let count = choose(7).into_iter().filter(|hit| *hit).count();
        assert!((250..350).contains(&count), "{count} of 1000 at a probability of 0.3");
    }

    #[test]
    fn a_call_takes_the_fault_placed_first_and_only_one() {
        let mut plan = Plan::default();
        plan.add("SendMessage", HttpFault::ReplyLost, Extent::Next(1));
        plan.add("*", HttpFault::RequestLost, Extent::Next(1));
        assert_eq!(plan.fault("ReceiveMessage"), Some(HttpFault::RequestLost));
        assert_eq!(plan.fault("SendMessage"), Some(HttpFault::ReplyLost));
        assert_eq!(plan.fault("SendMessage"), None);
    }
}
