//! The transformer against logits, loss and gradients that Hugging Face transformers recorded (make_llama.py), and
//! the shortcuts (cache, shared prompts, micro-batches, frozen blocks) against the plain way.

use std::path::{Path, PathBuf};

use plumb_engine::io::Manner;
use plumb_stages::maths::grpo::{GrpoLoss, LossType};
use plumb_stages::model::{Cut, Dtype, Model, Optimizer, Request, Rollout, Sampling, Schedule, Sequence, Training};
use plumb_torch::language_model::LanguageModel;
use plumb_torch::pass::predicting;
use plumb_torch::transformer::{Attend, Transformer};
use plumb_torch::weights::{self, Files};
use tch::{Kind, Tensor};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/llama")
}

fn open() -> LanguageModel {
    LanguageModel::open(&folder(), Dtype::Float32, &Manner { device: "cpu".into(), threads: 1 }).expect("opens")
}

fn recorded(name: &str) -> Tensor {
    let path = folder().join("reference.safetensors");
    Tensor::read_safetensors(path).expect("reads").into_iter().find(|(found, _)| found == name).expect("is there").1
}

fn apart(one: &Tensor, other: &Tensor) -> f64 {
    (one - other).abs().max().double_value(&[])
}

fn tokens() -> Vec<Vec<u32>> {
    let rows: Vec<Vec<i64>> = Vec::try_from(recorded("tokens")).expect("two dimensions");
    rows.into_iter().map(|row| row.into_iter().map(|token| token as u32).collect()).collect()
}

fn sequences() -> Vec<Sequence> {
    let cut = |row: Vec<u32>| Sequence { prompt: row[..5].to_vec(), completion: row[5..].to_vec() };
    tokens().into_iter().map(cut).collect()
}

fn optimizer() -> Optimizer {
    Optimizer {
        learning_rate: 1e-2,
        adam_beta1: 0.9,
        adam_beta2: 0.95,
        adam_epsilon: 1e-8,
        weight_decay: 0.1,
        max_grad_norm: 1.0,
        lr_scheduler_type: Schedule::Constant,
        warmup_steps: 0,
        warmup_ratio: 0.0,
        min_lr_ratio: 0.0,
        max_steps: 10,
    }
}

fn grpo(loss_type: LossType, beta: f64) -> GrpoLoss {
    GrpoLoss {
        epsilon: 0.2,
        epsilon_high: 0.28,
        beta,
        loss_type,
        temperature: 0.9,
        max_completion_length: 6,
        ..GrpoLoss::default()
    }
}

// Three prompts of unlike lengths, four completions each: the shared-prompt path.
fn groups() -> Vec<Sequence> {
    let prompts: [&[u32]; 3] = [&[3, 9, 12, 7], &[5, 6], &[30, 31, 32, 33, 34, 35]];
    let completions: [&[u32]; 4] = [&[8, 4, 40, 2], &[11], &[9, 2], &[17, 18, 19, 20, 21, 2]];
    let pair = |prompt: &&[u32]| {
        let prompt = prompt.to_vec();
        completions.map(|completion| Sequence { prompt: prompt.clone(), completion: completion.to_vec() })
    };
    prompts.iter().flat_map(pair).collect()
}

fn rollouts() -> Vec<Rollout> {
    let rollout = |(index, sequence): (usize, Sequence)| Rollout {
        advantage: [1.2, -0.7, 0.3, -0.8][index % 4],
        old_logprobs: sequence.completion.iter().map(|token| -2.0 - (*token as f32) / 30.0).collect(),
        ref_logprobs: sequence.completion.iter().map(|token| -3.0 - (*token as f32) / 40.0).collect(),
        counted: index != 5,
        sequence,
    };
    groups().into_iter().enumerate().map(rollout).collect()
}

#[test]
fn logits_are_those_of_transformers() {
    let model = open();
    let transformer = model.transformer();
    let tokens = recorded("tokens");
    let angles = transformer.angles_from_zero(9);
    let stream = transformer.blocks(0..2, transformer.embed(&tokens), &angles, &mut Attend::Causal(None));
    assert!(apart(&transformer.logits(&stream), &recorded("logits")) < 2e-4);
}

#[test]
fn loss_and_gradient_norm_are_those_of_transformers() {
    let mut model = open();
    model.prepare_training(&optimizer().into()).expect("prepares");
    let report = model.sft_step(&sequences(), Cut::Rows(0)).expect("steps");
    assert!((report.loss - recorded("loss").double_value(&[0])).abs() < 1e-5);
    assert!((report.grad_norm / recorded("grad_norm").double_value(&[0]) - 1.0).abs() < 1e-4);
}

#[test]
fn gradients_of_fused_weights_are_those_of_transformers() {
    let mut model = open();
    let config = model.transformer().config.clone();
    model.prepare_training(&optimizer().into()).expect("prepares");
    let learning = model.transformer().weights.iter().map(|w| w.copy().set_requires_grad(true)).collect();
    let mut transformer = Transformer::new(config.clone(), learning, Kind::Float, tch::Device::Cpu);
    let logits = transformer.logits(&predicting(&transformer, &sequences(), 0, None));
    let targets: Vec<i64> = sequences().iter().flat_map(|s| s.completion.clone()).map(i64::from).collect();
    logits.cross_entropy_for_logits(&Tensor::from_slice(&targets)).backward();
    transformer.weights = transformer.weights.iter().map(Tensor::grad).collect();
    for (place, name, member) in [(0, "grad_embed", 0), (2, "grad_q", 0), (11, "grad_up", 1)] {
        let split = weights::parts(&config)[place].split(&config, &transformer.weights[place]);
        assert!(apart(&split[member], &recorded(name)) < 1e-5, "{name}");
    }
}

#[test]
fn shared_prompts_score_as_separate_ones_do() {
    let mut model = open();
    let together = model.log_probabilities(&groups(), 0.9).expect("scores");
    for (sequence, together) in groups().into_iter().zip(together) {
        let alone = &model.log_probabilities(&[sequence], 0.9).expect("scores")[0];
        assert_eq!(alone.len(), together.len());
        assert!(alone.iter().zip(&together).all(|(one, other)| (one - other).abs() < 1e-4), "{alone:?} {together:?}");
    }
}

#[test]
fn generation_with_a_cache_scores_as_the_whole_sequence_does() {
    let mut model = open();
    let prompts: [&[u32]; 3] = [&[3, 9, 12, 7], &[5, 6], &[30, 31, 32, 33, 34, 35]];
    let request = |(stream, prompt): (u64, &&[u32])| Request { prompt: prompt.to_vec(), samples: 3, stream };
    let requests: Vec<Request> = (0u64..).zip(&prompts).map(request).collect();
    let sampling = Sampling { temperature: 0.7, max_new_tokens: 12, seed: 4, ..Sampling::default() };
    let drawn = model.generate(&requests, &sampling, &mut |_| {}).expect("generates");
    for (request, completions) in requests.iter().zip(&drawn) {
        assert_eq!(completions.len(), 3);
        for completion in completions {
            let sequence = Sequence { prompt: request.prompt.clone(), completion: completion.tokens.clone() };
            let scored = &model.log_probabilities(&[sequence], 0.7).expect("scores")[0];
            assert!(scored.iter().zip(&completion.logprobs).all(|(one, other)| (one - other).abs() < 2e-4));
            assert_eq!(completion.finished, completion.tokens.last() == Some(&2));
        }
    }
    // The same requests one by one and backwards draw the same tokens.
    for (request, together) in requests.iter().zip(&drawn).rev() {
        let alone = model.generate(std::slice::from_ref(request), &sampling, &mut |_| {}).expect("generates");
        let tokens = |completions: &[plumb_stages::model::Completion]| -> Vec<Vec<u32>> {
            completions.iter().map(|completion| completion.tokens.clone()).collect()
        };
        assert_eq!(tokens(&alone[0]), tokens(together));
    }
}

fn digest_after(steps: impl Fn(&mut LanguageModel)) -> (String, LanguageModel) {
    let mut model = open();
    model.prepare_training(&optimizer().into()).expect("prepares");
    steps(&mut model);
    (model.weights_digest(), model)
}

#[test]
fn micro_batches_give_the_gradient_of_the_whole() {
    for loss_type in [LossType::Grpo, LossType::Dapo, LossType::DrGrpo] {
        let loss = grpo(loss_type, 0.1);
        let reports: Vec<_> = [0, 3, 8]
            .map(|micro_batch| {
                let mut model = open();
                model.prepare_training(&optimizer().into()).expect("prepares");
                model.grpo_step(&rollouts(), &loss, micro_batch).expect("steps")
            })
            .into();
        for other in &reports[1..] {
            assert!((other.loss - reports[0].loss).abs() < 1e-5, "{loss_type:?}");
            assert!((other.grad_norm / reports[0].grad_norm - 1.0).abs() < 1e-4, "{loss_type:?}");
            assert!((other.entropy - reports[0].entropy).abs() < 1e-5, "{loss_type:?}");
        }
    }
}

#[test]
fn a_resumed_run_ends_at_the_same_bytes() {
    let state = tempfile::tempdir().expect("a folder");
    let (whole, _) = digest_after(|model| {
        for _ in 0..4 {
            model.sft_step(&sequences(), Cut::Rows(1)).expect("steps");
        }
    });
    digest_after(|model| {
        for _ in 0..2 {
            model.sft_step(&sequences(), Cut::Rows(1)).expect("steps");
        }
        model.save_checkpoint(state.path()).expect("saves");
    });
    let (resumed, _) = digest_after(|model| {
        model.resume(state.path()).expect("resumes");
        for _ in 0..2 {
            model.sft_step(&sequences(), Cut::Rows(1)).expect("steps");
        }
    });
    assert_eq!(whole, resumed);
}

#[test]
fn frozen_blocks_keep_their_weights_and_kept_activations_change_nothing() {
    let run = || {
        let mut model = open();
        model.prepare_training(&Training { trainable_layers: Some(1), ..optimizer().into() }).expect("prepares");
        let losses: Vec<f64> =
            (0..3).map(|_| model.sft_step(&sequences(), Cut::Rows(0)).expect("steps").loss).collect();
        let saved = tempfile::tempdir().expect("a folder");
        model.save(saved.path()).expect("saves");
        (losses, saved)
    };
    let (losses, saved) = run();
    assert!(losses[2] < losses[0], "{losses:?}");
    let (before, after) = (Files::open(&folder()).expect("opens"), Files::open(saved.path()).expect("opens"));
    let moved = |name: &str, shape: &[i64]| {
        apart(&before.tensor(name, shape).expect("is there"), &after.tensor(name, shape).expect("is there")) > 0.0
    };
    assert!(!moved("model.embed_tokens.weight", &[48, 24]));
    assert!(!moved("model.layers.0.self_attn.q_proj.weight", &[24, 24]));
    assert!(moved("model.layers.1.self_attn.q_proj.weight", &[24, 24]));
    assert!(moved("lm_head.weight", &[48, 24]));
    let reopened = LanguageModel::open(saved.path(), Dtype::Float32, &Manner::default()).expect("opens");
    assert_eq!(reopened.transformer().config.to_json(), open().transformer().config.to_json());
}

#[test]
fn bfloat16_stays_near_float32_and_learns() {
    let mut model = LanguageModel::open(&folder(), Dtype::Bfloat16, &Manner::default()).expect("opens");
    let rough = model.log_probabilities(&sequences(), 1.0).expect("scores");
    let exact = open().log_probabilities(&sequences(), 1.0).expect("scores");
    assert!(rough.iter().flatten().zip(exact.iter().flatten()).all(|(one, other)| (one - other).abs() < 0.5));
    model.prepare_training(&optimizer().into()).expect("prepares");
    let losses: Vec<f64> = (0..5).map(|_| model.sft_step(&sequences(), Cut::Rows(0)).expect("steps").loss).collect();
    assert!(losses[4] < losses[0], "{losses:?}");
}

/// GRPO's loss as its definition is written, token by token: loss, divergence, shares clipped below and above, and the
/// ratio that is furthest from 1. The mean is over all counted tokens (`dapo`).
fn written_out(rollouts: &[Rollout], logprobs: &[Vec<f32>], loss: &GrpoLoss) -> [f64; 5] {
    let mut sums = [0.0; 5];
    let mut tokens = 0.0;
    for (rollout, now) in rollouts.iter().zip(logprobs).filter(|(rollout, _)| rollout.counted) {
        for (place, now) in now.iter().enumerate() {
            let (now, a) = (f64::from(*now), rollout.advantage);
            let ratio = (now - f64::from(rollout.old_logprobs[place])).exp();
            let low = ratio < 1.0 - loss.epsilon;
            let high = ratio > 1.0 + loss.epsilon_high;
            let clipped = if low {
                1.0 - loss.epsilon
            } else if high {
                1.0 + loss.epsilon_high
            } else {
                ratio
            };
            let surrogate = if ratio * a < clipped * a { ratio * a } else { clipped * a };
            let d = f64::from(rollout.ref_logprobs[place]) - now;
            let k3 = d.exp() - d - 1.0;
            tokens += 1.0;
            sums[0] += loss.beta * k3 - surrogate;
            sums[1] += k3;
            sums[2] += f64::from(u8::from(low && a < 0.0));
            sums[3] += f64::from(u8::from(high && a > 0.0));
            sums[4] = f64::max(sums[4], (ratio - 1.0).abs());
        }
    }
    [sums[0] / tokens, sums[1] / tokens, sums[2] / tokens, sums[3] / tokens, sums[4]]
}

#[test]
fn later_updates_on_a_rollout_follow_the_formula_with_ratios_away_from_one() {
    let mut model = open();
    let loss = grpo(LossType::Dapo, 0.3);
    model.prepare_training(&optimizer().into()).expect("prepares");
    let drawn = model.log_probabilities(&groups(), loss.temperature).expect("scores");
    let mut rollouts = rollouts();
    for (rollout, drawn) in rollouts.iter_mut().zip(&drawn) {
        (rollout.old_logprobs, rollout.ref_logprobs) = (drawn.clone(), drawn.clone());
    }
    let mut clipped = 0.0;
    for update in 0..4 {
        let now = model.log_probabilities(&groups(), loss.temperature).expect("scores");
        let [expected, kl, low, high, furthest] = written_out(&rollouts, &now, &loss);
        let report = model.grpo_step(&rollouts, &loss, 0).expect("steps");
        let near = |found: f64, expected: f64| (found - expected).abs() < 1e-5 * (1.0 + expected.abs());
        assert!(near(report.loss, expected), "update {update}: loss {} is not {expected}", report.loss);
        assert!(near(report.kl, kl), "update {update}: divergence {} is not {kl}", report.kl);
        assert!(
            near(report.clip_low, low) && near(report.clip_high, high),
            "update {update}: {report:?}, {low} {high}"
        );
        assert_eq!(furthest > 0.1, update > 0, "update {update}: the ratios are {furthest} from 1");
        clipped += report.clip_low + report.clip_high;
    }
    assert!(clipped > 0.0, "some tokens left the range");
}
