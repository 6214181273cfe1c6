//! Values under numbers that are given out in order and mostly given back so: operations and jobs under way.
//!
//! A list of numbers in order, and a place for each value that does not move. Its one rule: the order of a walk is
//! that of the numbers.

use std::collections::VecDeque;
use std::ops::Index;

/// A map. As fast as an array where numbers grow, and come and go near its ends.
#[derive(Clone, Debug)]
pub(crate) struct Numbered<K, V> {
    numbers: VecDeque<(K, usize)>,
    values: Vec<Option<V>>,
    free: Vec<usize>,
}

impl<K, V> Default for Numbered<K, V> {
    fn default() -> Numbered<K, V> {
        Numbered { numbers: VecDeque::new(), values: Vec::new(), free: Vec::new() }
    }
}

impl<K: Copy + Ord, V> Numbered<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Adds a value under a number that is not in use.
    #[inline]
    pub(crate) fn insert(&mut self, number: K, value: V) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.values.push(None);
            self.values.len() - 1
        });
        self.values[place] = Some(value);
        match self.numbers.back() {
            Some(&(last, _)) if last >= number => {
                let at = self.find(number).expect_err("a number is used once");
                self.numbers.insert(at, (number, place));
            }
            _ => self.numbers.push_back((number, place)),
        }
    }

    #[inline]
    pub(crate) fn get(&self, number: &K) -> Option<&V> {
        let at = self.find(*number).ok()?;
        self.values[self.numbers[at].1].as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: &K) -> Option<&mut V> {
        let at = self.find(*number).ok()?;
        self.values[self.numbers[at].1].as_mut()
    }

    #[inline]
    pub(crate) fn remove(&mut self, number: &K) -> Option<V> {
        let at = self.find(*number).ok()?;
        let (_, place) = self.numbers.remove(at)?;
        self.free.push(place);
        self.values[place].take()
    }

    pub(crate) fn contains_key(&self, number: &K) -> bool {
        self.find(*number).is_ok()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.numbers.iter().filter_map(|(number, place)| Some((number, self.values[*place].as_ref()?)))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// In no order.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.iter_mut().flatten()
    }

    /// All values, in the order of their numbers.
    pub(crate) fn into_values(mut self) -> impl Iterator<Item = V> {
        self.numbers.into_iter().filter_map(move |(_, place)| self.values[place].take())
    }

    #[inline]
    fn find(&self, number: K) -> Result<usize, usize> {
        match self.numbers.front() {
            Some(&(first, _)) if first == number => Ok(0),
            _ => self.numbers.binary_search_by_key(&number, |&(number, _)| number),
        }
    }
}

impl<K: Copy + Ord, V> Index<&K> for Numbered<K, V> {
    type Output = V;

    fn index(&self, number: &K) -> &V {
        self.get(number).expect("the number is in use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_numbers_and_walked_in_their_order() {
        let mut numbered = Numbered::default();
        for number in [2, 5, 9, 7, 1] {
            numbered.insert(number, number * 10);
        }
        assert_eq!(numbered.get(&7), Some(&70));
        assert_eq!(numbered.remove(&5), Some(50));
        assert_eq!(numbered.remove(&5), None);
        assert!(!numbered.contains_key(&5));
        numbered.insert(11, 110);
        *numbered.get_mut(&1).expect("it is there") += 1;
        assert_eq!(numbered.iter().map(|(&number, _)| number).collect::<Vec<_>>(), [1, 2, 7, 9, 11]);
        assert_eq!(numbered.into_values().collect::<Vec<_>>(), [11, 20, 70, 90, 110]);
    }

    #[test]
    fn places_are_used_again() {
        let mut numbered = Numbered::default();
        for number in 0..1000 {
            numbered.insert(number, number);
            if number >= 4 {
                assert_eq!(numbered.remove(&(number - 4)), Some(number - 4));
            }
        }
        assert_eq!(numbered.values.len(), 5);
    }
}
