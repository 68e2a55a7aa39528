//! The stage kinds that a program knows, by name, with the types of their parameters erased.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::Deserialize as _;
use serde::de::DeserializeOwned;

use super::{Declaration, Declare, Kind, ParamError, Runner, Stage, StageError};
use crate::canonical::{self, Value};
use crate::io::Io;

struct Erased<D: Declare> {
    declaration: Declaration,
    runner: Option<Box<Runner>>,
    marker: std::marker::PhantomData<fn() -> D>,
}

impl<D: Declare> Erased<D> {
    fn new(runner: Option<Box<Runner>>) -> Self {
        let declaration = Declaration {
            kind: D::KIND,
            version: D::VERSION,
            about: D::ABOUT,
            determinism: D::DETERMINISM,
            inputs: D::INPUTS,
            outputs: D::OUTPUTS,
            worker: D::WORKER,
            neutral: D::NEUTRAL,
            open: false,
        };
        Self { declaration, runner, marker: std::marker::PhantomData }
    }
}

impl<D: Declare> Kind for Erased<D> {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn type_params(&self, with: toml::Spanned<toml::de::DeTable<'_>>) -> Result<Value, Vec<ParamError>> {
        let typed = D::Params::deserialize(toml::de::Deserializer::from(with)).map_err(|error| {
            vec![ParamError { message: error.message().to_string(), span: error.span(), field: None }]
        })?;
        let problems = D::check(&typed);
        if !problems.is_empty() {
            let told = problems.into_iter().map(|problem| ParamError {
                message: problem.message,
                span: None,
                field: Some(problem.field),
            });
            return Err(told.collect());
        }
        canonical::to_value(&typed)
            .map_err(|error| vec![ParamError { message: error.to_string(), span: None, field: None }])
    }

    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(D::Params)
    }

    fn runner(&self) -> Option<&Runner> {
        self.runner.as_deref()
    }
}

fn erase<P: DeserializeOwned>(run: impl Fn(P, &Io) -> Result<(), StageError> + Send + Sync + 'static) -> Box<Runner> {
    Box::new(move |params, io| {
        let params = serde_json::from_value(params)
            .map_err(|error| StageError::new(format!("parameters of this step do not type: {error}")))?;
        run(params, io)
    })
}

/// The stage kinds that a program knows, by name.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Arc<dyn Kind>>,
    /// A kind's fingerprint by its name; asked only where code counts.
    code: Option<fn(&str) -> Option<String>>,
}

impl Registry {
    /// Adds a kind with its function.
    #[must_use]
    pub fn with<S: Stage>(self) -> Self {
        self.run_with::<S>(S::run)
    }

    /// Adds a kind that another program runs.
    #[must_use]
    pub fn declare<D: Declare>(self) -> Self {
        self.insert(Arc::new(Erased::<D>::new(None)))
    }

    /// Adds (or replaces) a kind with a function given here: how a worker supplies a declared kind.
    #[must_use]
    pub fn run_with<D: Declare>(
        self,
        run: impl Fn(D::Params, &Io) -> Result<(), StageError> + Send + Sync + 'static,
    ) -> Self {
        self.insert(Arc::new(Erased::<D>::new(Some(erase(run)))))
    }

    /// Adds a kind that erases itself (`command`, whose inputs and outputs the pipeline names).
    #[must_use]
    pub fn insert(mut self, kind: Arc<dyn Kind>) -> Self {
        self.kinds.insert(kind.declaration().kind, kind);
        self
    }

    /// Says what a kind's code is: a digest over its source that comments and layout do not change.
    #[must_use]
    pub fn with_code(mut self, fingerprint: fn(&str) -> Option<String>) -> Self {
        self.code = Some(fingerprint);
        self
    }

    /// The fingerprint of a kind's code. A kind that has none stands for its whole program; the user's own programs
    /// are no code of ours: what they are goes into the key through `with.files` and `with.probe`.
    pub fn code(&self, declaration: &Declaration) -> Option<String> {
        static PROGRAM: OnceLock<Option<String>> = OnceLock::new();
        if declaration.open {
            return None;
        }
        let program = || -> Option<String> {
            let bytes = std::fs::read(std::env::current_exe().ok()?).ok()?;
            Some(format!("program:{}", plumb_cache::Digest::of(&bytes)))
        };
        let known = self.code.and_then(|fingerprint| fingerprint(declaration.kind));
        known.or_else(|| PROGRAM.get_or_init(program).clone())
    }

    /// The kind of that name.
    pub fn find(&self, kind: &str) -> Option<&Arc<dyn Kind>> {
        self.kinds.get(kind)
    }

    /// Every kind, by name.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<dyn Kind>> {
        self.kinds.values()
    }
}
