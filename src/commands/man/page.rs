//! Builds the manual pages: one for the program, one for each command and one for the configuration file.

use clap::Arg;
use clap::builder::StyledStr;

use super::roff::{Page, bold, escape, italic};
use super::texts::{ENVIRONMENT, EXIT_CODES, FILES, KEYS, Key};

/// The date that this version's pages carry.
const DATE: &str = "2026-11-26";

/// The name of the manual page of the configuration file.
pub(super) const CONFIG_PAGE: &str = "manage-ports.toml";

/// Returns the page of the program.
pub(super) fn of_program(root: &clap::Command) -> String {
    let name = root.get_name();
    let mut page = head(name, root);
    page.section("SYNOPSIS");
    page.line(&format!("{} [{}] {} [{}]", bold(name), italic("OPTION"), italic("COMMAND"), italic("ARGUMENT")));
    page.section("DESCRIPTION");
    page.text(&text(root.get_about()));
    page.line(".PP");
    page.text("Settings come from flags, then the environment, then the configuration file, then the defaults.");
    page.section("COMMANDS");
    for command in root.get_subcommands() {
        page.item(&bold(command.get_name()), &text(command.get_about()));
    }
    page.section("OPTIONS");
    root.get_arguments().for_each(|arg| describe(&mut page, arg));
    common(&mut page);
    // Returns the first example of a command.
    let first = |command| Some(examples(command)?.lines().next()?.to_owned());
    page.section("EXAMPLES");
    page.literal(&root.get_subcommands().filter_map(first).collect::<Vec<_>>().join("\n"));
    let mut others: Vec<_> =
        root.get_subcommands().map(|command| (format!("{name}-{}", command.get_name()), 1)).collect();
    others.sort();
    others.push((CONFIG_PAGE.to_owned(), 5));
    page.see_also(&others);
    page.finish()
}

/// Returns the page of a command.
pub(super) fn of_command(root: &clap::Command, command: &clap::Command) -> String {
    let name = root.get_name();
    let mut page = head(&format!("{name}-{}", command.get_name()), command);
    page.section("SYNOPSIS");
    let usage = command.clone().render_usage().to_string();
    for (index, line) in usage.trim_start_matches("Usage:").trim().lines().enumerate() {
        if index > 0 {
            page.line(".br");
        }
        page.line(&synopsis(line.trim(), command));
    }
    page.section("DESCRIPTION");
    page.paragraphs(&text(command.get_long_about().or(command.get_about())));
    let more = text(command.get_after_long_help().or(command.get_after_help()));
    let more = more.split(EXAMPLES).next().unwrap_or_default();
    if !more.trim().is_empty() {
        page.line(".PP");
        page.paragraphs(more);
    }
    page.section("OPTIONS");
    command.get_positionals().for_each(|arg| describe(&mut page, arg));
    own_options(command).for_each(|arg| describe(&mut page, arg));
    page.line(".PP");
    page.line(&format!("The options that every command has are in {} (1).", bold(name)).replace(" (1)", "(1)"));
    common(&mut page);
    if let Some(examples) = examples(command) {
        page.section("EXAMPLES");
        page.literal(&examples);
    }
    page.see_also(&[(name.to_owned(), 1), (CONFIG_PAGE.to_owned(), 5)]);
    page.finish()
}

/// Returns the page of the configuration file.
pub(super) fn of_config() -> String {
    let mut page = Page::new(CONFIG_PAGE, 5, DATE);
    page.section("NAME");
    page.line(&format!("{} \\- the configuration file of manage\\-ports", escape(CONFIG_PAGE)));
    page.section("DESCRIPTION");
    page.paragraphs(
        "A TOML file in the current folder or the nearest one above it, or where --config or MANAGE_PORTS_CONFIG\n\
         names one. Every key is optional, and an unknown one is an error. Relative paths start at the file's\n\
         folder. Flags and variables win over the file.\n\n\
         A duration is a text such as \"500ms\", \"30s\", \"10m\", \"2h\" or \"7d\".",
    );
    page.section("KEYS");
    by_table(|line| match line {
        Line::Table(table) => page.subsection(&format!("[{table}]")),
        Line::Key(key) => page.item(&format!("{} = {}", bold(key.name), escape(key.default)), key.text),
    });
    page.line(".PP");
    page.text(
        "Of the lists under [declared], the first that a file sets counts when the file is read; exec,\n\
         --format env and --env-file set all of them.",
    );
    page.section("EXAMPLES");
    let mut example = Vec::new();
    by_table(|line| {
        example.push(match line {
            Line::Table(table) => format!("[{table}]"),
            Line::Key(key) => format!("{} = {}", key.name, key.default),
        });
    });
    page.literal(&example.join("\n"));
    page.see_also(&[("manage-ports".to_owned(), 1)]);
    page.finish()
}

/// A table or a key of the configuration file.
enum Line {
    Table(&'static str),
    Key(&'static Key),
}

/// Calls `each` for every key, and for the name of a table before its first key.
fn by_table(mut each: impl FnMut(Line)) {
    let mut table = "";
    for key in &KEYS {
        if key.table != table {
            table = key.table;
            each(Line::Table(table));
        }
        each(Line::Key(key));
    }
}

/// The heading of the examples in a command's help.
const EXAMPLES: &str = "Examples:\n";

/// Returns the examples in a command's help, without their indent.
fn examples(command: &clap::Command) -> Option<String> {
    let help = text(command.get_after_long_help().or(command.get_after_help()));
    let (_, examples) = help.split_once(EXAMPLES)?;
    Some(examples.lines().map(str::trim).collect::<Vec<_>>().join("\n"))
}

fn text(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// Returns the options that only this command has, without the global ones.
fn own_options(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|arg| !arg.is_positional() && !arg.is_global_set() && !arg.is_hide_set())
}

/// Starts a page with its title and its NAME section, whose description begins in lower case by convention.
fn head(name: &str, command: &clap::Command) -> Page {
    let mut page = Page::new(name, 1, DATE);
    let about = text(command.get_about());
    let mut rest = about.chars();
    let first: String = rest.next().into_iter().flat_map(char::to_lowercase).collect();
    page.section("NAME");
    page.line(&format!("{} \\- {}{}", escape(name), escape(&first), escape(rest.as_str())));
    page
}

/// Returns a line of the usage with markup, in which the optional options replace `[OPTIONS]`.
fn synopsis(usage: &str, command: &clap::Command) -> String {
    let mut words = Vec::new();
    let mut rest = usage;
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        rest = &rest[start..];
        // A blank inside brackets does not end a word, so the depth of brackets is counted.
        let mut depth = 0;
        let end = rest.find(|c: char| {
            depth += i32::from("<[".contains(c)) - i32::from(">]".contains(c));
            depth == 0 && c.is_whitespace()
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        let (name, dots) = word.split_once(['>', ']']).unwrap_or((word, ""));
        let dots = dots.replace("...", " \\&...");
        match name.strip_prefix(['<', '[']) {
            Some("OPTIONS") => words.extend(optional(command).map(in_brackets)),
            Some(name) if word.starts_with('<') => words.push(italic(name) + &dots),
            Some(name) => words.push(format!("[{}]{dots}", italic(name))),
            None => words.push(bold(word)),
        }
    }
    words.join(" ")
}

/// Returns the options of a command that are not required, without `--help`.
fn optional(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    own_options(command).filter(|arg| !arg.is_required_set() && arg.get_id() != "help")
}

fn in_brackets(option: &Arg) -> String {
    format!("[{}]", with_values(option, option.get_long().map_or_else(String::new, |long| bold(&format!("--{long}")))))
}

/// Returns an option's name followed by its value names.
fn with_values(option: &Arg, name: String) -> String {
    let takes_values = option.get_action().takes_values();
    let values = option.get_value_names().unwrap_or_default().iter().filter(|_| takes_values);
    values.fold(name, |name, value| format!("{name} {}", italic(value)))
}

/// Adds an argument with its description and its possible values to the page.
fn describe(page: &mut Page, arg: &Arg) {
    if arg.is_hide_set() {
        return;
    }
    let name = match (arg.get_short(), arg.get_long()) {
        (None, None) => String::new(),
        (short, long) => {
            let short = short.map(|short| format!("-{short}"));
            let names = short.into_iter().chain(long.map(|long| format!("--{long}")));
            names.map(|name| bold(&name)).collect::<Vec<_>>().join(", ")
        }
    };
    page.item(with_values(arg, name).trim_start(), &text(arg.get_long_help().or(arg.get_help())));
    let values: Vec<_> = arg.get_possible_values().into_iter().filter(|value| !value.is_hide_set()).collect();
    if !values.is_empty() && arg.get_action().takes_values() {
        page.line(".RS");
        for value in values {
            page.item(&bold(value.get_name()), &text(value.get_help()));
        }
        page.line(".RE");
    }
}

/// Adds the sections that all pages share: environment, files and exit codes.
fn common(page: &mut Page) {
    for (title, items) in
        [("ENVIRONMENT", ENVIRONMENT.as_slice()), ("FILES", &FILES), ("\"EXIT STATUS\"", EXIT_CODES.as_slice())]
    {
        page.section(title);
        for (name, meaning) in items {
            page.item(&bold(name), meaning);
        }
    }
}
