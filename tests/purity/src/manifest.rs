//! What a `Cargo.toml` depends on.

use std::{collections::BTreeSet, fs, io, path::Path};

/// One crate as its manifest describes it.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// The package name.
    pub name: String,
    /// The packages it is built from, those for single targets included.
    pub dependencies: BTreeSet<String>,
    /// The packages only its tests use.
    pub dev_dependencies: BTreeSet<String>,
}

impl Manifest {
    /// Reads the manifest in `folder`.
    ///
    /// # Errors
    /// When the file cannot be read or is no manifest.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(folder.join("Cargo.toml"))?;
        Self::parse(&text).map_err(io::Error::other)
    }

    /// Reads the text of a manifest.
    ///
    /// # Errors
    /// When it is not TOML.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        let table: toml::Table = toml::from_str(text)?;
        let mut manifest = Self {
            name: table["package"]["name"].as_str().unwrap_or_default().to_owned(),
            ..Self::default()
        };
        manifest.add(&table);
        if let Some(targets) = table.get("target").and_then(toml::Value::as_table) {
            targets
                .values()
                .filter_map(toml::Value::as_table)
                .for_each(|target| manifest.add(target));
        }
        Ok(manifest)
    }

    fn add(&mut self, table: &toml::Table) {
        let names = |section: &str| {
            let section = table.get(section).and_then(toml::Value::as_table);
            section.into_iter().flatten().map(|(key, value)| {
                let renamed = value.get("package").and_then(toml::Value::as_str);
                renamed.unwrap_or(key).to_owned()
            })
        };
        self.dependencies.extend(names("dependencies"));
        self.dependencies.extend(names("build-dependencies"));
        self.dev_dependencies.extend(names("dev-dependencies"));
    }
}
