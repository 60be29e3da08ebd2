//! Helpers for connectors.

/// Splits `elements` into at most `groups` groups of consecutive elements whose sizes differ by one at most, the
/// larger ones first. (Java: `ConnectorUtils.groupPartitions`; empty groups, which Java returns when there are fewer
/// elements than groups, are left out, as every caller must drop them.)
pub fn group_partitions<T: Clone>(elements: &[T], groups: usize) -> Vec<Vec<T>> {
    assert!(groups > 0, "elements cannot be divided into zero groups");
    let used = groups.min(elements.len());
    let mut rest = elements;
    (0..used)
        .map(|group| {
            let size = elements.len() / used + usize::from(group < elements.len() % used);
            let (taken, left) = rest.split_at(size);
            rest = left;
            taken.to_vec()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::group_partitions;

    #[test]
    fn groups_are_consecutive_and_even() {
        assert_eq!(group_partitions(&[1, 2, 3, 4, 5], 2), vec![vec![1, 2, 3], vec![4, 5]]);
        assert_eq!(group_partitions(&[1, 2], 3), vec![vec![1], vec![2]]);
        assert_eq!(group_partitions::<i32>(&[], 3), Vec::<Vec<i32>>::new());
    }
}
