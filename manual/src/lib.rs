//! Manual pages and shell completions, from the same definition that reads the command line.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Of commands for the administrator (man-pages(7)).
const SECTION: &str = "8";

/// Writes below `directory`, which may be there: `man8/NAME.8` of the command and of each of its subcommands that is shown, and
/// `bash/NAME`, `zsh/_NAME` and `fish/NAME.fish`.
///
/// # Errors
/// When a file cannot be written.
pub fn write(command: Command, directory: &Path) -> io::Result<()> {
    // Completions would offer what the help hides.
    let mut command = shown(command).disable_help_subcommand(true);
    let pages = directory.join(format!("man{SECTION}"));
    fs::create_dir_all(&pages)?;
    command.build();
    let source = format!("migrate {}", command.get_version().unwrap_or_default());
    write_pages(&command, &source, &pages)?;
    let name = command.get_name().to_owned();
    for (shell, file) in [
        (Shell::Bash, format!("bash/{name}")),
        (Shell::Zsh, format!("zsh/_{name}")),
        (Shell::Fish, format!("fish/{name}.fish")),
    ] {
        let file = directory.join(file);
        file.parent().map_or(Ok(()), fs::create_dir_all)?;
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut command, &name, &mut text);
        fs::write(file, text)?;
    }
    Ok(())
}

/// The command without its hidden subcommands.
fn shown(command: Command) -> Command {
    let subcommands: Vec<Command> = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let mut bare = Command::new(command.get_name().to_owned())
        .version(command.get_version().unwrap_or_default().to_owned())
        .arg_required_else_help(command.is_arg_required_else_help_set())
        .args(command.get_arguments().cloned())
        .groups(command.get_groups().cloned())
        .subcommands(subcommands);
    if let Some(about) = command.get_about() {
        bare = bare.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        bare = bare.long_about(about.clone());
    }
    match command.get_after_help() {
        Some(text) => bare.after_help(text.clone()),
        None => bare,
    }
}

fn write_pages(command: &Command, source: &str, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands() {
        write_pages(subcommand, source, directory)?;
    }
    let mut page = Vec::new();
    Man::new(command.clone()).section(SECTION).source(source).manual("migrate").render(&mut page)?;
    let name = command.get_display_name().unwrap_or(command.get_name());
    fs::write(directory.join(format!("{name}.{SECTION}")), page)
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn what_is_shown_has_a_page_and_is_completed() {
        let directory = tempfile::tempdir().expect("a directory");
        let command = Command::new("tool")
            .about("Does things")
            .version("1")
            .after_help("Example: tool mend")
            .arg(Arg::new("log").long("log").value_name("LEVEL"))
            .subcommand(Command::new("mend").about("Mends a thing").arg(Arg::new("fast").long("fast")))
            .subcommand(Command::new("innards").hide(true).arg(Arg::new("id").long("id")));
        write(command, directory.path()).expect("written");
        let read = |file: &str| fs::read_to_string(directory.path().join(file)).expect(file);
        let page = read("man8/tool.8");
        assert!(
            page.contains("Does things") && page.contains("LEVEL") && page.contains("Example: tool mend"),
            "{page}"
        );
        assert!(read("man8/tool-mend.8").contains("Mends a thing"));
        for completion in ["bash/tool", "zsh/_tool", "fish/tool.fish"] {
            let text = read(completion);
            assert!(
                text.contains("mend") && text.contains("fast") && !text.contains("innards"),
                "{completion}: {text}"
            );
        }
        assert!(!page.contains("innards") && !directory.path().join("man8/tool-innards.8").exists());
    }
}
