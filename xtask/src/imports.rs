//! Which file of a crate imports from which, read from its paths.
//!
//! It is not the compiler: it follows `crate::`, `super::`, `self::`, names of modules and names that a `use` bound,
//! through re-exports, to the file that declares what is named. What has no path is not seen: a method that another
//! file gives to a type, a macro, a field. What an item is called with `as` is followed like any other name.
//! Made by `tidy::circles` from a `Tree`, once per crate.
//!
//! What counts as an import, and what does not:
//! - A path counts where it is written, in `use` or in code, and leads to the file that *declares* the last name that
//!   can be found, however many files re-export it in between.
//! - `mod child;` does not count, nor does `use child::Name;` in the file above, public or not: a parent that lists
//!   what is below it does not need it. It counts where the parent's own code says the name.
//! - Test code does not count, nor do comments: links in documentation may point anywhere.
//!
//! Invariant: every import is between two different files of one crate, and has the line and the path that made it.

use std::collections::BTreeMap;

use crate::scan::Line;
use crate::tree::{RustFile, Tree};

/// How many re-exports may lie between a name and its declaration.
const HOPS_MAX: usize = 16;

/// One file imports from another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: String,
    pub(crate) to: String,
    /// Where it is written, from 1.
    pub(crate) line: usize,
    /// What is written there.
    pub(crate) path: String,
}

/// All imports within the crate whose sources lie in `folder` (`crates/wire/src/`), one for each pair of files.
pub(crate) fn imports(tree: &Tree, folder: &str) -> Vec<Import> {
    let files: Vec<&RustFile> = tree
        .rust
        .iter()
        .filter(|file| file.path.starts_with(folder))
        .collect();
    let modules = Modules::read(&files, folder);
    let mut found: BTreeMap<(usize, usize), Import> = BTreeMap::new();
    for (from, module) in modules.0.iter().enumerate() {
        for (line, path) in module.imported() {
            let Some(Target { module: to, .. }) = modules.resolve(from, &path, HOPS_MAX) else {
                continue;
            };
            if to != from {
                found.entry((from, to)).or_insert_with(|| Import {
                    from: module.file.clone(),
                    to: modules.0[to].file.clone(),
                    line,
                    path: path.join("::"),
                });
            }
        }
    }
    found.into_values().collect()
}

/// The modules of a crate that have files of their own, without those that only tests have.
struct Modules(Vec<Module>);

/// Where a path leads.
#[derive(Clone, Copy)]
struct Target {
    module: usize,
    /// The path ends at the module itself, not at something declared in it.
    is_module: bool,
}

impl Modules {
    fn read(files: &[&RustFile], folder: &str) -> Self {
        let mut modules = Vec::new();
        for root in ["lib.rs", "main.rs"] {
            let path = format!("{folder}{root}");
            Self::add(&mut modules, files, &path, folder, None);
        }
        Self(modules)
    }

    /// Adds the module at `path`, whose children lie in `below`, and then those.
    fn add(
        modules: &mut Vec<Module>,
        files: &[&RustFile],
        path: &str,
        below: &str,
        parent: Option<usize>,
    ) -> Option<usize> {
        let file = files.iter().find(|file| file.path == path)?;
        let index = modules.len();
        modules.push(Module::read(file, parent));
        let names = modules[index].declared_modules.clone();
        for name in names {
            let inside = format!("{below}{name}/");
            let child = [format!("{below}{name}.rs"), format!("{inside}mod.rs")]
                .iter()
                .find_map(|path| Self::add(modules, files, path, &inside, Some(index)));
            if let Some(child) = child {
                modules[index].children.insert(name, child);
            }
        }
        Some(index)
    }

    /// The file that declares what `path` names when it is written in module `at`; `None` if that is another crate's.
    fn resolve(&self, at: usize, path: &[String], hops: usize) -> Option<Target> {
        let mut target = self.start(at, path.first()?, hops)?;
        for name in &path[1..] {
            if !target.is_module {
                break;
            }
            target = match name.as_str() {
                "self" | "*" => target,
                "super" => Target {
                    module: self.0[target.module].parent?,
                    is_module: true,
                },
                name => self.inside(target.module, name, hops)?,
            };
        }
        Some(target)
    }

    fn start(&self, at: usize, first: &str, hops: usize) -> Option<Target> {
        let module = |module| Target {
            module,
            is_module: true,
        };
        match first {
            "crate" => Some(module(0)),
            "self" => Some(module(at)),
            "super" => self.0[at].parent.map(module),
            name => self.named(at, name, hops),
        }
    }

    /// What `name` is in module `at`, if it is a module or was bound there.
    fn named(&self, at: usize, name: &str, hops: usize) -> Option<Target> {
        let module = &self.0[at];
        if let Some(child) = module.children.get(name) {
            return Some(Target {
                module: *child,
                is_module: true,
            });
        }
        let uses = || module.uses.iter().filter(|_| hops > 0);
        if let Some(bound) = uses().find(|used| used.bound == name) {
            // `use link::Link as link` and `use bytes;` would lead here again.
            return (bound.path.first().map(String::as_str) != Some(name))
                .then(|| self.resolve(at, &bound.path, hops - 1))
                .flatten();
        }
        uses()
            .filter(|used| used.bound == "*")
            .filter_map(|used| self.resolve(at, &used.path, hops - 1))
            .filter(|glob| glob.is_module && glob.module != at)
            .find_map(|glob| {
                let declares = self.0[glob.module]
                    .declared
                    .iter()
                    .any(|known| known == name);
                match declares {
                    true => Some(Target {
                        module: glob.module,
                        is_module: false,
                    }),
                    false => self.named(glob.module, name, hops - 1),
                }
            })
    }

    /// What `name` is inside module `at`: a module, something re-exported, or else declared there.
    fn inside(&self, at: usize, name: &str, hops: usize) -> Option<Target> {
        let here = Target {
            module: at,
            is_module: false,
        };
        let module = &self.0[at];
        let is_bound = module.uses.iter().any(|used| used.bound == name);
        if is_bound && !module.children.contains_key(name) {
            return self.named(at, name, hops);
        }
        Some(self.named(at, name, hops).unwrap_or(here))
    }
}

/// A file as a module.
struct Module {
    file: String,
    parent: Option<usize>,
    /// By name, as indices.
    children: BTreeMap<String, usize>,
    declared_modules: Vec<String>,
    /// Names of items, at any depth.
    declared: Vec<String>,
    uses: Vec<Use>,
    /// Paths in code, and single words that may be names a `use` bound.
    paths: Vec<(usize, Vec<String>)>,
}

/// One name that a `use` brings in.
struct Use {
    line: usize,
    path: Vec<String>,
    /// The name it has here; `*` for all.
    bound: String,
}

impl Module {
    fn read(file: &RustFile, parent: Option<usize>) -> Self {
        let mut reader = Reader {
            tokens: tokens(&file.lines),
            at: 0,
            depth: 0,
            inline: Vec::new(),
            module: Self {
                file: file.path.clone(),
                parent,
                children: BTreeMap::new(),
                declared_modules: Vec::new(),
                declared: Vec::new(),
                uses: Vec::new(),
                paths: Vec::new(),
            },
        };
        reader.run();
        reader.module
    }

    /// The paths that count as imports, with their lines.
    fn imported(&self) -> Vec<(usize, Vec<String>)> {
        let mut found: Vec<(usize, Vec<String>)> = Vec::new();
        for used in &self.uses {
            let below = used.path.iter().find(|name| *name != "self");
            let is_listing = below.is_some_and(|name| self.children.contains_key(name));
            let is_in_code = || self.paths.iter().any(|(_, path)| path[0] == used.bound);
            // What a module is imported for stands in the paths that begin with its name.
            let through = self
                .paths
                .iter()
                .any(|(_, path)| path.len() > 1 && path[0] == used.bound);
            if !through && (!is_listing || is_in_code()) {
                found.push((used.line, used.path.clone()));
            }
        }
        found.extend(
            self.paths
                .iter()
                .filter(|(_, path)| path.len() > 1)
                .cloned(),
        );
        found.sort();
        found
    }
}

/// A word, a number or a sign of code; `::` is one token.
#[derive(Clone)]
struct Token {
    text: String,
    line: usize,
}

fn tokens(lines: &[Line]) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.test) {
        let mut rest = line.code.as_str();
        while let Some(first) = rest.chars().next() {
            let word = rest
                .find(|letter: char| !(letter.is_alphanumeric() || letter == '_'))
                .unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            if !first.is_whitespace() {
                tokens.push(Token {
                    text: rest[..length].to_owned(),
                    line: index + 1,
                });
            }
            rest = &rest[length..];
        }
    }
    tokens
}

fn is_word(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// The depths of the braces of modules within this file.
    inline: Vec<usize>,
    module: Module,
}

impl Reader {
    fn text(&self, ahead: usize) -> &str {
        self.tokens
            .get(self.at + ahead)
            .map_or("", |token| token.text.as_str())
    }

    fn run(&mut self) {
        while let Some(token) = self.tokens.get(self.at).cloned() {
            match token.text.as_str() {
                "{" => self.depth += 1,
                "}" => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.inline.last() == Some(&self.depth) {
                        self.inline.pop();
                    }
                }
                "pub" if self.text(1) == "(" => self.skip_to(")"),
                "use" => {
                    self.at += 1;
                    self.on_use(Vec::new());
                    continue;
                }
                "mod" => self.on_mod(),
                "struct" | "enum" | "union" | "trait" | "fn" | "const" | "static" | "type"
                    if is_word(self.text(1)) =>
                {
                    let name = self.text(1).to_owned();
                    self.module.declared.push(name);
                }
                word if is_word(word) => {
                    self.on_path();
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn skip_to(&mut self, sign: &str) {
        while !self.text(0).is_empty() && self.text(0) != sign {
            self.at += 1;
        }
    }

    fn on_mod(&mut self) {
        let name = self.text(1).to_owned();
        match self.text(2) {
            ";" => self.module.declared_modules.push(name),
            "{" => self.inline.push(self.depth),
            _ => {}
        }
    }

    /// A path, or a word alone.
    fn on_path(&mut self) {
        let line = self.tokens[self.at].line;
        let is_tail = self.at > 0 && [".", "::"].contains(&self.tokens[self.at - 1].text.as_str());
        let mut path = vec![self.text(0).to_owned()];
        self.at += 1;
        while self.text(0) == "::" && is_word(self.text(1)) {
            path.push(self.text(1).to_owned());
            self.at += 2;
        }
        if !is_tail {
            let path = self.outside_inline(path);
            self.module.paths.push((line, path));
        }
    }

    /// What follows `use`: names, braces, `as`, `*`, up to the comma or brace or semicolon that ends it.
    fn on_use(&mut self, mut path: Vec<String>) {
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        loop {
            match self.text(0) {
                "{" => {
                    self.at += 1;
                    while !["}", "", ";"].contains(&self.text(0)) {
                        self.on_use(path.clone());
                        if self.text(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "::" => self.at += 1,
                "," | "}" | ";" | "" | "as" => break,
                name => {
                    path.push(name.to_owned());
                    self.at += 1;
                }
            }
        }
        let last = path.iter().rfind(|name| *name != "self").cloned();
        let mut bound = last.unwrap_or_default();
        if self.text(0) == "as" {
            bound = self.text(1).to_owned();
            self.at += 2;
        }
        let path = self.outside_inline(path);
        self.module.uses.push(Use { line, path, bound });
    }

    /// The path as the file would write it: `super` leads out of the modules within the file first.
    fn outside_inline(&self, mut path: Vec<String>) -> Vec<String> {
        let out = path.iter().take_while(|name| *name == "super").count();
        let out = out.min(self.inline.len());
        if out > 0 {
            path.drain(..out);
            if path.first().is_none_or(|name| name != "super") {
                path.insert(0, "self".to_owned());
            }
        }
        path
    }
}
