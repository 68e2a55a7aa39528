//! The headline table as text, byte for byte.

use expect_test::{Expect, expect};

use super::*;
use crate::report::headline::Line;

fn headline() -> Headline {
    let cell =
        |value: f64| Cell { value: Some(value), low: Some(value - 0.1), high: Some(value + 0.1), ..Cell::default() };
    let best = |value| Cell { best: true, ..cell(value) };
    let close = |value| Cell { close: true, p: Some(0.5), ..cell(value) };
    Headline {
        benchmarks: vec!["llmbar_adv".into()],
        branches: vec![
            Line { branch: "out, \"come\" 50%".into(), cells: vec![vec![close(0.75), cell(0.5), Cell::default()]] },
            Line { branch: "r|align".into(), cells: vec![vec![best(0.8), best(0.25), best(0.6)]] },
        ],
        replicated: true,
        digests: [("score@arm=a_b.metrics".to_owned(), "0123456789abcdef".to_owned())].into(),
    }
}

fn check(text: String, expect: Expect) {
    expect.assert_eq(&text);
}

#[test]
fn markdown_marks_the_best_and_what_does_not_differ() {
    check(
        headline().markdown(),
        expect![[r#"
        | branch          |         llmbar_adv L-Acc |        llmbar_adv S-Corr |       llmbar_adv F-Score |
        |-----------------|-------------------------:|-------------------------:|-------------------------:|
        | out, "come" 50% |    0.750 [0.650, 0.850]† |     0.500 [0.400, 0.600] |                        – |
        | r\|align        | **0.800 [0.700, 0.900]** | **0.250 [0.150, 0.350]** | **0.600 [0.500, 0.700]** |

        **Bold** the best of a column; † not significantly different from it (paired, Holm-adjusted within the column, level 0.05). Brackets: 95 % intervals, over seeds.

        Computed from `score@arm=a_b.metrics` 0123456789abcdef.
    "#]],
    );
}

#[test]
fn latex_escapes_what_it_would_take_for_commands() {
    check(
        headline().latex(),
        expect![[r#"
        % \usepackage{booktabs}
        \begin{tabular}{lrrr}
        \toprule
        & \multicolumn{3}{c}{llmbar\_adv} \\
        \cmidrule(lr){2-4}
        Branch & L-Acc & S-Corr & F-Score \\
        \midrule
        out, "come" 50\% & 0.750 [0.650, 0.850]$^{\dagger}$ & 0.500 [0.400, 0.600] & -- \\
        r|align & \textbf{0.800 [0.700, 0.900]} & \textbf{0.250 [0.150, 0.350]} & \textbf{0.600 [0.500, 0.700]} \\
        \bottomrule
        \multicolumn{4}{p{\linewidth}}{\footnotesize Bold: the best of a column; $^{\dagger}$ not significantly different from it (paired, Holm-adjusted within the column, level 0.05). Brackets: 95 \% intervals, over seeds. Computed from \texttt{score@arm=a\_b.metrics} \texttt{0123456789ab}.}
        \end{tabular}
        % score@arm=a_b.metrics 0123456789abcdef
    "#]],
    );
}

#[test]
fn csv_quotes_names_and_leaves_unknown_numbers_empty() {
    check(
        headline().csv(),
        expect![[r#"
        branch,benchmark,metric,value,low,high,best,not_significantly_different,p_holm,coverage
        "out, ""come"" 50%",llmbar_adv,l_acc,0.75,0.65,0.85,false,true,0.5,
        "out, ""come"" 50%",llmbar_adv,s_corr,0.5,0.4,0.6,false,false,,
        "out, ""come"" 50%",llmbar_adv,f_score,,,,false,false,,
        r|align,llmbar_adv,l_acc,0.8,0.7000000000000001,0.9,true,false,,
        r|align,llmbar_adv,s_corr,0.25,0.15,0.35,true,false,,
        r|align,llmbar_adv,f_score,0.6,0.5,0.7,true,false,,
        # score@arm=a_b.metrics 0123456789abcdef
    "#]],
    );
    assert_eq!(quoted("=1+1"), "'=1+1");
}
