//! [pure] Finitely many arguments that stand for all of them.
//!
//! Rules and programs look at arguments only through [`Atom`]s. Arguments that
//! give the same answer to every atom are treated alike, so one of each such
//! class stands for all; classes that nothing satisfies are left out.

use super::{Rule, Test};

/// Whether a masked 32-bit half of an argument equals a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Atom {
    /// Twice the argument, and one more for its high half.
    pub word: usize,
    /// The bits that count.
    pub mask: u32,
    /// Compared with.
    pub value: u32,
}

/// Low and high half of each argument.
pub type Words = [u32; 12];

/// The most classes that are tried: far more than any rule of ours has.
pub const MAX_CASES: usize = 1 << 17;

/// The six arguments that these halves make.
pub fn args(words: &Words) -> [u64; 6] {
    std::array::from_fn(|arg| u64::from(words[2 * arg]) | u64::from(words[2 * arg + 1]) << 32)
}

/// One input for every satisfiable set of answers to `atoms`; `None` when
/// there are more than [`MAX_CASES`].
pub fn inputs(mut atoms: Vec<Atom>) -> Option<impl Iterator<Item = Words>> {
    atoms.sort_unstable();
    atoms.dedup();
    let axes: Vec<(usize, Vec<u32>)> = atoms
        .chunk_by(|left, right| left.word == right.word)
        .map(|same| (same[0].word, representatives(same)))
        .collect();
    let total = axes
        .iter()
        .try_fold(1_usize, |total, axis| total.checked_mul(axis.1.len()));
    let total = total.filter(|&total| total <= MAX_CASES)?;
    Some((0..total).map(move |mut case| {
        let mut words = [0; 12];
        for (word, values) in &axes {
            words[*word] = values[case % values.len()];
            case /= values.len();
        }
        words
    }))
}

/// Every compare of an argument word that a rule makes.
pub fn atoms(rule: Rule<'_>) -> Vec<Atom> {
    let Rule::Cases(cases) = rule else {
        return Vec::new();
    };
    cases
        .clauses
        .iter()
        .flat_map(|clause| &clause.when)
        .flat_map(test_atoms)
        .collect()
}

fn test_atoms(test: &Test) -> impl Iterator<Item = Atom> {
    let low = 2 * usize::from(test.arg);
    test.values
        .iter()
        .flat_map(move |value| {
            [(low, 0), (low + 1, 32)].map(|(word, shift)| Atom {
                word,
                mask: (test.mask >> shift) as u32,
                value: (value >> shift) as u32,
            })
        })
        .filter(|atom| atom.mask != 0)
}

/// The words `w` with `w & mask == value`.
#[derive(Clone, Copy)]
struct Cube {
    mask: u32,
    value: u32,
}

impl Cube {
    fn holds(self, word: u32) -> bool {
        word & self.mask == self.value
    }

    /// The words in both, if there are any.
    fn meet(self, other: Self) -> Option<Self> {
        let agree = (self.value ^ other.value) & self.mask & other.mask == 0;
        agree.then_some(Self {
            mask: self.mask | other.mask,
            value: self.value | other.value,
        })
    }
}

/// Words with the same answers to all atoms so far: in `inside`, in none of `outside`.
struct Class {
    inside: Cube,
    outside: Vec<Cube>,
    witness: u32,
}

/// One word for every satisfiable set of answers to compares of one word.
fn representatives(atoms: &[Atom]) -> Vec<u32> {
    let mut classes = vec![Class {
        inside: Cube { mask: 0, value: 0 },
        outside: Vec::new(),
        witness: 0,
    }];
    // A value with bits outside its mask never compares equal: nothing to tell apart.
    for atom in atoms.iter().filter(|atom| atom.value & !atom.mask == 0) {
        let cube = Cube {
            mask: atom.mask,
            value: atom.value,
        };
        for at in 0..classes.len() {
            let class = &mut classes[at];
            let Some(inside) = class.inside.meet(cube) else {
                continue;
            };
            let held = cube.holds(class.witness);
            let witness_in = if held {
                Some(class.witness)
            } else {
                find(inside, &class.outside)
            };
            let mut outside = class.outside.clone();
            outside.push(cube);
            let witness_out = if held {
                find(class.inside, &outside)
            } else {
                Some(class.witness)
            };
            match (witness_in, witness_out) {
                (Some(yes), Some(no)) => {
                    let twin = Class {
                        inside,
                        outside: class.outside.clone(),
                        witness: yes,
                    };
                    class.outside = outside;
                    class.witness = no;
                    classes.push(twin);
                }
                (Some(yes), None) => (class.inside, class.witness) = (inside, yes),
                (None, _) => {}
            }
        }
    }
    classes.into_iter().map(|class| class.witness).collect()
}

/// A word in `inside` and in none of `outside`, if there is one. Complete: it
/// leaves the first cube that holds its candidate through each free bit in turn.
fn find(inside: Cube, outside: &[Cube]) -> Option<u32> {
    let Some(trap) = outside.iter().find(|cube| cube.holds(inside.value)) else {
        return Some(inside.value);
    };
    let mut stay = inside;
    for bit in (0..32)
        .map(|bit| 1_u32 << bit)
        .filter(|bit| trap.mask & !inside.mask & bit != 0)
    {
        let leave = Cube {
            mask: stay.mask | bit,
            value: stay.value | (!trap.value & bit),
        };
        if let Some(word) = find(leave, outside) {
            return Some(word);
        }
        stay = Cube {
            mask: stay.mask | bit,
            value: stay.value | (trap.value & bit),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn atom(mask: u32, value: u32) -> Atom {
        Atom {
            word: 0,
            mask,
            value,
        }
    }

    fn answers(atoms: &[Atom], word: u32) -> Vec<bool> {
        atoms
            .iter()
            .map(|atom| word & atom.mask == atom.value)
            .collect()
    }

    #[test]
    fn values_of_one_mask_make_a_class_each_and_one_for_the_rest() {
        assert_eq!(
            representatives(&[atom(u32::MAX, 1), atom(u32::MAX, 2)]).len(),
            3
        );
        assert_eq!(representatives(&[]).len(), 1);
    }

    #[test]
    fn a_full_cover_leaves_no_rest() {
        assert_eq!(representatives(&[atom(1, 0), atom(1, 1)]).len(), 2);
    }

    #[test]
    fn too_many_cases_are_refused() {
        let atoms = (0..12).flat_map(|word| {
            (0..4).map(move |value| Atom {
                word,
                mask: 0xff,
                value,
            })
        });
        assert!(inputs(atoms.collect()).is_none());
    }

    proptest! {
        /// Against brute force over all 8-bit words.
        #[test]
        fn every_satisfiable_class_has_exactly_one_representative(
            raw in prop::collection::vec((0_u32..256, 0_u32..256), 0..7),
        ) {
            let atoms: Vec<Atom> = raw.iter().map(|&(mask, value)| atom(mask, value & mask)).collect();
            let expected: BTreeSet<_> = (0..256).map(|word| answers(&atoms, word)).collect();
            let found: Vec<_> = representatives(&atoms).into_iter().map(|word| answers(&atoms, word)).collect();
            prop_assert_eq!(found.len(), expected.len());
            prop_assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        }
    }
}
