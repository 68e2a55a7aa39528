//! The miniature's rubric. A grounded judgment has exactly eight tokens, `A <seen> B <seen> but <factor> <truth> [A]`,
//! and matches gold where its four free fields equal gold's. Knows the grammar, never the world behind it.

use super::{Judged, MetaVerdict};

// Names of the four fields, in the order of the grammar.
const NAMES: [&str; 4] = ["claim A", "claim B", "factor", "required value"];

/// Compares two judgments of the miniature field by field.
pub fn judge(golden: &str, rationale: &str) -> Judged {
    let Some(wanted) = fields(golden) else {
        return Judged::failed(MetaVerdict::ParseFail, "the gold judgment has not the rubric's shape");
    };
    let Some(found) = fields(rationale) else {
        return Judged::decided(false, 0.0, "the rationale has not the grounded shape".into());
    };
    let matches = |index: &usize| wanted[*index] == found[*index];
    let (right, wrong): (Vec<usize>, Vec<usize>) = (0..NAMES.len()).partition(matches);
    let differ = |index: usize| format!("{} is `{}`, gold says `{}`", NAMES[index], found[index], wanted[index]);
    let analysis = match wrong.is_empty() {
        true => "all four fields match".into(),
        false => wrong.iter().map(|index| differ(*index)).collect::<Vec<_>>().join("; "),
    };
    Judged::decided(wrong.is_empty(), right.len() as f64 / NAMES.len() as f64, analysis)
}

fn fields(text: &str) -> Option<[&str; 4]> {
    let tokens: Vec<&str> = text.split_whitespace().collect();
    match tokens[..] {
        ["A", claim_a, "B", claim_b, "but", factor, truth, "[A]" | "[B]"] => Some([claim_a, claim_b, factor, truth]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judging::meta::MetaJudge;
    use expect_test::{Expect, expect};

    fn check(rationale: &str, expected: Expect) {
        let judged = MetaJudge::Rubric {}.judge("A 4 B 3 but max 4 [A]", rationale);
        expected.assert_eq(&format!("{:?} {} {}", judged.verdict, judged.score, judged.analysis));
    }

    #[test]
    fn four_equal_fields_are_correct() {
        check("A 4 B 3 but max 4 [A]", expect!["Correct 1 all four fields match"]);
        check("B 3 first </think> A 4  B 3 but max 4 [A]", expect!["Correct 1 all four fields match"]);
    }

    #[test]
    fn each_wrong_field_costs_a_quarter() {
        check("A 4 B 4 but max 4 [A]", expect!["Incorrect 0.75 claim B is `4`, gold says `3`"]);
        check(
            "A none B 2 but min 4 [A]",
            expect![
                "Incorrect 0.25 claim A is `none`, gold says `4`; claim B is `2`, gold says `3`; factor is `min`, gold says `max`"
            ],
        );
    }

    #[test]
    fn a_superficial_judgment_has_not_the_shape() {
        check("A longer bullets polite [A]", expect!["Incorrect 0 the rationale has not the grounded shape"]);
        check("A 4 B 3 but max 4 [A] [A]", expect!["Incorrect 0 the rationale has not the grounded shape"]);
        check("", expect!["Incorrect 0 the rationale has not the grounded shape"]);
    }

    #[test]
    fn a_bad_gold_is_a_failure_and_not_the_model_s_fault() {
        let judged = |gold| MetaJudge::Rubric {}.judge(gold, "A 4 B 3 but max 4 [A]").verdict;
        assert_eq!(judged("A is longer"), MetaVerdict::ParseFail);
        assert_eq!(judged(" "), MetaVerdict::CallFail);
    }
}
