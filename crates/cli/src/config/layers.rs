//! The three places a setting may be written, read into one shape.
//!
//! Comes in: flags, environment, the text of one TOML file. Goes out: for each key its written values, strongest first
//! (flag, variable, file), each with its source, and the problems of form: unknown names, tables where values belong,
//! a file that is not TOML. What a value means is the business of [`super::parse`].

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use toml::de::{DeTable, DeValue};

use super::{
    keys::{self, CONFIG, DEFAULT_FILE, KEYS, Key, VARIABLE_PREFIX},
    problem::{Problems, Source},
};

/// What the process was started with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    /// Values of flags by key name.
    pub(crate) flags: Vec<(&'static str, Vec<String>)>,
    /// The environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// The file to read if it exists and no other is named.
    pub(crate) default_file: Option<PathBuf>,
}

impl Inputs {
    /// The given flags and the environment of this process.
    pub(crate) fn from_process(flags: Vec<(&'static str, Vec<String>)>) -> Self {
        let text = |s: std::ffi::OsString| s.to_string_lossy().into_owned();
        let environment = std::env::vars_os()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        Self {
            flags,
            environment,
            default_file: Some(PathBuf::from(DEFAULT_FILE)),
        }
    }
}

/// How the report of an unreadable configuration file begins.
pub(super) const CANNOT_READ: &str = "cannot read the file";

/// One written value: a single string, or the items of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) values: Vec<String>,
    pub(crate) source: Source,
}

/// Everything that was written, by key name, strongest source first.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    written: BTreeMap<&'static str, Vec<Written>>,
    /// The environment, for the variables that are not settings (`TS_AUTHKEY`, systemd's).
    pub(crate) environment: BTreeMap<String, String>,
    /// What is odd but no mistake.
    pub(crate) warnings: Vec<String>,
}

impl Layers {
    /// Reads flags, environment and file.
    pub(crate) fn read(inputs: Inputs, problems: &mut Problems) -> Self {
        let mut layers = Self::default();
        for (name, values) in &inputs.flags {
            if let Some(key) = keys::find(name) {
                layers.add(key, values.clone(), Source::Flag(key.flag()));
            }
        }
        layers.read_environment(&inputs.environment, problems);
        layers.read_file(&inputs, problems);
        layers.environment = inputs.environment;
        layers
    }

    /// What was written for a key, strongest first.
    pub(crate) fn written(&self, name: &str) -> &[Written] {
        self.written.get(name).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, key: &'static Key, values: Vec<String>, source: Source) {
        let values = split(key, values);
        self.written
            .entry(key.name)
            .or_default()
            .push(Written { values, source });
    }

    fn read_environment(&mut self, environment: &BTreeMap<String, String>, problems: &mut Problems) {
        for (variable, value) in environment {
            let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) else {
                continue;
            };
            let name = name.to_ascii_lowercase();
            match keys::find(&name) {
                Some(key) => self.add(key, vec![value.clone()], Source::Variable(variable.clone())),
                None if name == CONFIG.name || is_kubernetes_link(&name) => {}
                // The environment is shared: what resembles no setting may be another program's.
                None if keys::suggest(&name).is_none() && !is_auth_key(&name) => {
                    self.warnings.push(format!("{variable} is no setting and was ignored"));
                }
                None => problems.add(Source::Variable(variable.clone()), unknown(&name, |key| key.variable())),
            }
        }
    }

    fn read_file(&mut self, inputs: &Inputs, problems: &mut Problems) {
        let Some((path, origin)) = file_to_read(inputs) else {
            return;
        };
        let path = Arc::new(path);
        match std::fs::read_to_string(path.as_ref()) {
            Ok(text) => self.read_toml(&text, &path, problems),
            Err(error) => problems.add(origin, format!("{CANNOT_READ} {}: {error}", path.display())),
        }
    }

    fn read_toml(&mut self, text: &str, path: &Arc<PathBuf>, problems: &mut Problems) {
        let at = |offset: usize| Source::File {
            path: Arc::clone(path),
            line: line_of(text, offset),
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let offset = error.span().map_or(0, |span| span.start);
            problems.add(at(offset), format!("not TOML here: {}", error.message()));
        }
        // In the order of the file, which is the order in which its author will mend it.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let source = at(name.span().start);
            let name = name.get_ref().as_ref();
            match (keys::find(name), value.get_ref()) {
                (Some(key), value) => match values_of(key, value) {
                    Ok(values) => self.add(key, values, source),
                    Err(text) => problems.add(source, text),
                },
                (None, _) if name == CONFIG.name => {
                    problems.add(
                        source,
                        "the file cannot name another file: use --config or COUNTERSIGN_CONFIG",
                    );
                }
                (None, DeValue::Table(_)) => {
                    problems.add(
                        source,
                        format!("unknown section [{name}]: all keys stand at the top, without sections"),
                    );
                }
                (None, _) => problems.add(source, unknown(name, |key| key.name.to_owned())),
            }
        }
    }
}

/// The default of a key in the shape of a written value; `None` where there is no default.
pub(super) fn default_of(name: &str) -> Option<Written> {
    let key = keys::find(name)?;
    let default = key.default?;
    Some(Written {
        values: split(key, vec![default.to_owned()]),
        source: Source::Whole,
    })
}

/// Takes the comma-separated lists of list keys apart.
fn split(key: &Key, values: Vec<String>) -> Vec<String> {
    if !key.list {
        return values;
    }
    let items = values.iter().flat_map(|text| text.split(',')).map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// The file to read and who named it; `None` when there is none.
fn file_to_read(inputs: &Inputs) -> Option<(PathBuf, Source)> {
    let flag = inputs
        .flags
        .iter()
        .find(|(name, _)| *name == CONFIG.name)
        .and_then(|(_, values)| values.last());
    if let Some(path) = flag {
        return Some((PathBuf::from(path), Source::Flag(CONFIG.flag())));
    }
    let variable = CONFIG.variable();
    if let Some(path) = inputs.environment.get(&variable).filter(|path| !path.is_empty()) {
        return Some((PathBuf::from(path), Source::Variable(variable)));
    }
    let path = inputs.default_file.clone().filter(|path| path.exists())?;
    Some((
        path.clone(),
        Source::File {
            path: Arc::new(path),
            line: 0,
        },
    ))
}

/// Kubernetes sets `COUNTERSIGN_SERVICE_HOST` and the like in every pod beside a service named `countersign`.
fn is_kubernetes_link(name: &str) -> bool {
    name.starts_with("service_host") || name.starts_with("service_port") || name.starts_with("port_")
}

fn is_auth_key(name: &str) -> bool {
    name == "auth_key" || name == "authkey"
}

fn unknown(name: &str, spell: impl Fn(&Key) -> String) -> String {
    if is_auth_key(name) {
        return "a pre-auth key is not a setting, because settings are seen by others: put it in a file and name that \
                with auth_key_file, or set TS_AUTHKEY"
            .to_owned();
    }
    match keys::suggest(name).and_then(keys::find) {
        Some(key) => format!("unknown setting: did you mean {}?", spell(key)),
        None => {
            let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
            format!("unknown setting; there are {}", names.join(", "))
        }
    }
}

fn values_of(key: &Key, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    match value {
        DeValue::Array(items) if key.list => items.iter().map(|item| scalar(key, item.get_ref())).collect(),
        DeValue::Array(_) => Err(format!("{} takes one value, not a list", key.name)),
        other => scalar(key, other).map(|text| vec![text]),
    }
}

fn scalar(key: &Key, value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.clone().into_owned()),
        DeValue::Integer(number) => i128::from_str_radix(&number.as_str().replace('_', ""), number.radix())
            .map(|number| number.to_string())
            .map_err(|error| format!("{}: {error}", key.name)),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Datetime(_) => Err(format!("{} cannot be a date", key.name)),
        DeValue::Array(_) | DeValue::Table(_) => Err(format!("{} takes plain values, not nested ones", key.name)),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    let end = offset.min(text.len());
    text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
}
