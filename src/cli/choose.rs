use spilman::scenario::{self, Scenario};

/// How scenarios are named on the command line, for `--help`.
pub const HOW: &str = "\
A name is construction/protocol/story, such as taproot/example-7/closed-together. Whole parts of a name select every \
scenario that has them: `taproot`, `bond`, `p2wsh/bond`, `malleated`. A star matches any letters: `payee-vanishes-*`.";

/// Returns the scenarios that match one of these patterns, in the order of the list.
///
/// # Errors
/// What to say if one of them means none.
pub fn choose(wanted: &[String]) -> Result<Vec<Scenario>, String> {
    let all = scenario::all();
    for pattern in wanted {
        if !all.iter().any(|scenario| is_meant(pattern, scenario.name())) {
            return Err(unknown(pattern, &all));
        }
    }
    let is_wanted = |scenario: &Scenario| wanted.iter().any(|pattern| is_meant(pattern, scenario.name()));
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// Returns whether the pattern's parts are parts of the name, one after the other.
pub fn is_meant(pattern: &str, name: &str) -> bool {
    let pattern: Vec<_> = pattern.trim_end_matches('/').split('/').collect();
    let name: Vec<_> = name.split('/').collect();
    let fits = |parts: &[&str]| {
        parts
            .iter()
            .zip(&pattern)
            .all(|(part, pattern)| is_like(part, pattern))
    };
    name.windows(pattern.len()).any(fits)
}

/// Whether the text is the pattern, in which a star stands for any letters.
fn is_like(text: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => text == pattern,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| is_like(&text[at..], rest))
        }),
    }
}

fn unknown(pattern: &str, all: &[Scenario]) -> String {
    let ending = pattern
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or(pattern);
    let close = all
        .iter()
        .map(Scenario::name)
        .filter(|known| !ending.is_empty() && known.contains(ending))
        .take(5)
        .collect::<Vec<_>>();
    if close.is_empty() {
        format!(
            "no scenario is named '{pattern}'; `spilman list` shows all {}",
            all.len()
        )
    } else {
        format!(
            "no scenario is named '{pattern}'; did you mean {}?",
            close.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::is_meant;

    #[test]
    fn a_part_of_a_name_means_all_that_have_it() {
        for (pattern, name, meant) in [
            ("p2sh", "p2sh/bond/malleated", true),
            ("p2sh", "p2sh-p2wsh/bond/malleated", false),
            ("p2sh*", "p2sh-p2wsh/bond/malleated", true),
            ("bond", "p2wsh/bond/malleated", true),
            ("p2wsh/bond/", "p2wsh/bond/malleated", true),
            ("p2wsh/malleated", "p2wsh/bond/malleated", false),
            ("malleated", "p2wsh/bond/malleated-segwit", false),
            ("bond/mal*d", "p2wsh/bond/malleated", true),
            ("p2wsh/bond/malleated/x", "p2wsh/bond/malleated", false),
            ("", "p2wsh/bond/malleated", false),
            ("*", "p2wsh/bond/malleated", true),
        ] {
            assert_eq!(is_meant(pattern, name), meant, "{pattern:?} and {name}");
        }
    }
}
