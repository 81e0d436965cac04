//! Many small things that do not depend on each other, done by two OS threads: one system call or two for each are most of what a
//! freeze takes.

use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::error::{Error, Result};

/// Below this many, a second OS thread would cost more than it saves.
const MANY: usize = 100;
/// So many are taken at a time: whichever thread is slower, they end together.
const PIECE: usize = 32;

/// Does `each` for all of them, in no order. What it returned, in theirs. Err: what the first of the failures was; some have not been
/// done then.
pub fn in_two<T: Send, R: Send>(items: &mut [T], each: impl Fn(&mut T) -> Result<R> + Sync) -> Result<Vec<R>> {
    if items.len() < MANY {
        return items.iter_mut().map(each).collect();
    }
    let pieces = Mutex::new(items.chunks_mut(PIECE).enumerate());
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || -> Result<Vec<(usize, Vec<R>)>> {
        let mut done = Vec::new();
        while let Some((i, piece)) = next() {
            done.push((i, piece.iter_mut().map(&each).collect::<Result<_>>()?));
        }
        Ok(done)
    };
    let (mine, other) = thread::scope(|scope| {
        // Without it all is done here.
        let helper = thread::Builder::new().spawn_scoped(scope, work).ok();
        (work(), helper.map_or(Ok(Ok(Vec::new())), |helper| helper.join()))
    });
    let mut done = mine?;
    done.extend(other.map_err(|_| helper_failed())??);
    done.sort_unstable_by_key(|(i, _)| *i);
    Ok(done.into_iter().flat_map(|(_, results)| results).collect())
}

/// Does both, at the same time if they are about `many` things and there is a CPU for each. Err: the second has panicked.
pub fn both<A, B: Send>(many: usize, first: impl FnOnce() -> A, second: impl FnOnce() -> B + Send) -> Result<(A, B)> {
    if many < MANY {
        return Ok((first(), second()));
    }
    thread::scope(|scope| {
        let other = scope.spawn(second);
        let done = first();
        Ok((done, other.join().map_err(|_| helper_failed())?))
    })
}

fn helper_failed() -> Error {
    Error::Invalid("a thread that helps has failed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done() {
        for many in [1, MANY] {
            assert_eq!(both(many, || 1, || "two").expect("both"), (1, "two"));
        }
    }

    #[test]
    fn all_are_done_once_and_in_order() {
        for count in [0, 1, MANY - 1, MANY, 1000] {
            let mut items: Vec<usize> = (0..count).collect();
            let results = in_two(&mut items, |item| {
                *item += 1;
                Ok(*item * 2)
            });
            assert_eq!(items, (1..=count).collect::<Vec<_>>());
            assert_eq!(results.expect("none fails"), (1..=count).map(|i| i * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn one_that_fails_is_told() {
        for count in [1, 1000] {
            let fails = |item: &mut usize| match *item {
                0 => Err(Error::Invalid("zero".into())),
                other => Ok(other),
            };
            let mut items: Vec<usize> = (0..count).rev().collect();
            assert!(matches!(in_two(&mut items, fails), Err(Error::Invalid(why)) if why == "zero"));
        }
    }
}
