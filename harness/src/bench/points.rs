//! Which points of a session are measured.

/// `count` numbers below `all`, evenly spread; with more tests than points they
/// come round again.
#[must_use]
pub fn spread(all: usize, count: usize) -> Vec<usize> {
    if all == 0 {
        return Vec::new();
    }
    if count > all {
        return (0..count).map(|number| number % all).collect();
    }
    (0..count)
        .map(|number| (2 * number + 1) * all / (2 * count))
        .collect()
}

/// The same, but in runs of `turn` numbers that follow each other: the runs are evenly
/// spread.
#[must_use]
pub fn neighbours(all: usize, count: usize, turn: usize) -> Vec<usize> {
    if count >= all {
        return spread(all, count);
    }
    let parts = spread(all, count.div_ceil(turn));
    let last = all.saturating_sub(turn);
    let runs = parts.into_iter().flat_map(|middle| {
        let first = middle.saturating_sub(turn / 2).min(last);
        first..(first + turn).min(all)
    });
    runs.take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_spread_over_the_session() {
        assert_eq!(spread(100, 4), [12, 37, 62, 87]);
        assert_eq!(spread(3, 3), [0, 1, 2]);
        assert_eq!(spread(2, 3), [0, 1, 0]);
        assert!(spread(0, 3).is_empty());
    }

    #[test]
    fn neighbours_come_in_turns_which_are_spread() {
        assert_eq!(neighbours(100, 6, 3), [24, 25, 26, 74, 75, 76]);
        assert_eq!(neighbours(100, 4, 3), [24, 25, 26, 74]);
        assert_eq!(neighbours(4, 3, 3), [1, 2, 3]);
        assert_eq!(neighbours(2, 3, 3), [0, 1, 0]);
        assert!(neighbours(0, 3, 3).is_empty());
    }
}
