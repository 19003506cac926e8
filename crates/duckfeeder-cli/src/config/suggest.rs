//! "Did you mean": the nearest of the known names.

/// The candidate nearest to `name`, when it is near enough to be a slip.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits (insert, remove, replace, swap neighbours) between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    let mut previous_left = None;
    for (row, a) in left.chars().enumerate() {
        let mut current = Vec::with_capacity(right.len() + 1);
        current.push(row + 1);
        let mut previous_right = None;
        for (column, b) in right.iter().copied().enumerate() {
            let at =
                |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let replace = at(&last, column) + usize::from(a != b);
            let remove = at(&last, column + 1) + 1;
            let insert = at(&current, column) + 1;
            let mut best = replace.min(remove).min(insert);
            if column > 0 && previous_left == Some(b) && previous_right == Some(a) {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
            previous_right = Some(b);
        }
        before_last = std::mem::replace(&mut last, current);
        previous_left = Some(a);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (left, right, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("max_row", "max_rows", 1),
            ("mxa_rows", "max_rows", 1),
            ("intervall", "interval", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn only_slips_are_suggested() {
        let names = ["interval", "max_rows", "max_bytes"];
        assert_eq!(nearest("max_row", names), Some("max_rows"));
        assert_eq!(nearest("intreval", names), Some("interval"));
        assert_eq!(nearest("region", names), None);
        assert_eq!(nearest("x", names), None);
    }
}
