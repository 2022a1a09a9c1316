//! What the command line accepts, and what `--help` says.

use clap::{CommandFactory, Parser};

use super::*;

#[test]
fn the_commands_are_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn every_setting_is_a_flag_of_serve() {
    let cli = Cli::command();
    let serve = cli.find_subcommand("serve").unwrap();
    for key in all() {
        let argument = serve
            .get_arguments()
            .find(|argument| argument.get_long() == Some(&key.flag()));
        assert!(argument.is_some(), "--{}", key.flag());
    }
}

#[test]
fn lists_are_repeated_or_separated_by_commas() {
    let cli = Cli::parse_from([
        "countersign",
        "serve",
        "--tags",
        "tag:a",
        "--tags",
        "tag:b,tag:c",
        "--port",
        "8443",
    ]);
    let Task::Serve(Settings(flags)) = cli.command else {
        panic!("serve")
    };
    assert_eq!(
        flags,
        [
            ("tags", vec!["tag:a".to_owned(), "tag:b,tag:c".to_owned()]),
            ("port", vec!["8443".to_owned()])
        ]
    );
}

#[test]
fn the_pre_auth_key_is_not_a_flag() {
    let error = Cli::try_parse_from(["countersign", "serve", "--auth-key", "secret"]).unwrap_err();
    assert!(error.to_string().contains("--auth-key-file"), "{error}");
}

/// Of the default build: without the feature `demo` one command is missing.
#[cfg(feature = "demo")]
#[test]
fn help_is_as_written_down() {
    let mut cli = Cli::command();
    cli.build();
    let mut text = String::new();
    let names = [
        vec![],
        vec!["serve"],
        vec!["demo"],
        vec!["status"],
        vec!["ca"],
        vec!["issuer", "change"],
        vec!["policy", "explain"],
        vec!["client", "list"],
        vec!["client", "publish"],
    ];
    for path in names {
        let mut command = &mut cli;
        for name in path {
            command = command.find_subcommand_mut(name).unwrap();
        }
        text += &command.render_help().to_string();
        text += "\n----\n";
    }
    let stored = concat!(env!("CARGO_MANIFEST_DIR"), "/src/args/help.txt");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(stored, &text).unwrap();
    }
    let expected = std::fs::read_to_string(stored).unwrap_or_default();
    assert!(
        text == expected,
        "help differs from {stored}: look at it, then run with UPDATE_SNAPSHOTS=1\n{text}"
    );
}
