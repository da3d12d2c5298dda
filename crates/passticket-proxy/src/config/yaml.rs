//! Parses a YAML document into a tree. Each node of the tree contains its line.
//!
//! The parser accepts the part of YAML 1.2 that a configuration needs: one document, whose keys are
//! texts. A mapping must not contain a key twice. The parser also accepts the merge key `<<` of YAML 1.1
//! (<https://yaml.org/type/merge.html>), because Zowe and its tools accept it.
//!
//! Tags are ignored, with two exceptions: a value with a tag is never null, and `!!merge <<` is a
//! merge key.
//!
//! The depth and the number of nodes are limited. For these limits, an alias counts as many nodes as it repeats. So a
//! short document with aliases cannot use much memory.

use std::{borrow::Cow, collections::HashMap};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, StrInput, Tag};

use super::problem::{push_index, push_name};

const MAX_DEPTH: usize = 64;
const MAX_NODES: usize = 100_000;

/// The merge key: the entries of its value become entries of the mapping that contains the key.
const MERGE: &str = "<<";

#[derive(Clone)]
pub(super) struct Node {
    pub(super) line: usize,
    pub(super) value: Value,
}

#[derive(Clone)]
pub(super) enum Value {
    /// An absent value, `~` or `null`.
    Null,
    Scalar(String),
    Seq(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) line: usize,
    pub(super) node: Node,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) key: String,
    pub(super) text: String,
}

/// Returns the tree and the faults of the text. The tree is `None` if the text is not valid YAML.
///
/// An empty document is `Null`. If a mapping contains a key twice, the first value is used, and the second key is
/// reported as a fault.
///
/// A merge key adds entries of one or more other mappings. Each added entry keeps its line number. An entry of the
/// mapping itself takes precedence over an added entry with the same key. If the value of the merge key is a list of
/// mappings, an earlier mapping takes precedence over a later mapping.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Fault>) {
    let mut builder = Builder {
        parser: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
        line: 1,
        path: String::new(),
        anchors: HashMap::new(),
        nodes_left: MAX_NODES,
        faults: Vec::new(),
    };
    let root = match builder.document() {
        Ok(root) => Some(root),
        Err(fault) => {
            builder.faults.push(fault);
            None
        }
    };
    (root, builder.faults)
}

struct Builder<'input> {
    parser: Parser<'input, StrInput<'input>>,
    line: usize,
    path: String,
    anchors: HashMap<usize, Node>,
    nodes_left: usize,
    faults: Vec<Fault>,
}

impl<'input> Builder<'input> {
    fn document(&mut self) -> Result<Node, Fault> {
        let mut root = None;
        loop {
            match self.next()? {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(self.fault("a second document begins here; write one per file"));
                }
                Event::DocumentStart(_) => {
                    let first = self.next()?;
                    root = Some(self.node(first, 0)?);
                }
                _ => return Err(self.fault("is not YAML")),
            }
        }
        Ok(root.unwrap_or(Node { line: 1, value: Value::Null }))
    }

    fn next(&mut self) -> Result<Event<'input>, Fault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line().max(1);
                Ok(event)
            }
            Some(Err(error)) => Err(self.syntax(&error)),
            None => Err(self.fault("the file ends too early")),
        }
    }

    fn node(&mut self, event: Event<'input>, depth: usize) -> Result<Node, Fault> {
        self.count(1)?;
        let line = self.line;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let null = style == ScalarStyle::Plain
                    && tag.is_none()
                    && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Value::Null } else { Value::Scalar(text.into_owned()) };
                (value, anchor)
            }
            Event::SequenceStart(anchor, _) => (Value::Seq(self.items(depth)?), anchor),
            Event::MappingStart(anchor, _) => (Value::Map(self.entries(depth)?), anchor),
            Event::Alias(anchor) => {
                // The parser itself reports an unknown anchor. So an anchor that is not in the map belongs to a node
                // that is not complete yet. The alias is inside this node.
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(self.fault("the alias is inside the value that it refers to"));
                };
                let (count, height) = node.measure();
                if depth + height > MAX_DEPTH {
                    return Err(self.too_deep());
                }
                let value = node.value.clone();
                self.count(count)?;
                (value, 0)
            }
            _ => return Err(self.fault("is not YAML")),
        };
        let node = Node { line, value };
        if anchor != 0 {
            self.count(node.measure().0)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn items(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        self.check_depth(depth)?;
        let mut items = Vec::new();
        let outer = self.path.len();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(items),
                event => {
                    push_index(&mut self.path, items.len());
                    items.push(self.node(event, depth + 1)?);
                    self.path.truncate(outer);
                }
            }
        }
    }

    fn entries(&mut self, depth: usize) -> Result<Vec<Entry>, Fault> {
        self.check_depth(depth)?;
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        let mut lines = HashMap::new();
        let outer = self.path.len();
        loop {
            let (key, is_merge) = match self.next()? {
                Event::MappingEnd => break,
                Event::Scalar(text, style, 0, tag) => {
                    let is_merge = is_merge(&text, style, tag.as_ref());
                    (text.into_owned(), is_merge)
                }
                event => match self.node(event, depth + 1)?.value {
                    Value::Scalar(text) => (text, false),
                    _ => return Err(self.fault("a key must be a text")),
                },
            };
            let line = self.line;
            push_name(&mut self.path, &key);
            let first = lines.get(&key).copied();
            if let Some(first) = first {
                self.faults.push(
                    self.fault(&format!(
                        "occurs twice (first in line {first}); remove one of them"
                    )),
                );
            }
            let event = self.next()?;
            let node = self.node(event, depth + 1)?;
            if first.is_none() {
                lines.insert(key.clone(), line);
                if is_merge {
                    match self.merged(node) {
                        Ok(entries) => merged = entries,
                        Err(fault) => self.faults.push(Fault { line, ..fault }),
                    }
                } else {
                    entries.push(Entry { key, line, node });
                }
            }
            self.path.truncate(outer);
        }
        for entry in merged {
            if !lines.contains_key(&entry.key) {
                lines.insert(entry.key.clone(), entry.line);
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// Returns the entries that a merge key adds. `node` is the value of the merge key.
    fn merged(&self, node: Node) -> Result<Vec<Entry>, Fault> {
        let mapping = |node: Node| match node.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.fault(
                "must be a mapping or a list of mappings, because it is the value of a merge key",
            )),
        };
        match node.value {
            Value::Seq(items) => {
                let items = items.into_iter().map(mapping).collect::<Result<Vec<_>, _>>()?;
                Ok(items.into_iter().flatten().collect())
            }
            _ => mapping(node),
        }
    }

    fn check_depth(&self, depth: usize) -> Result<(), Fault> {
        if depth < MAX_DEPTH { Ok(()) } else { Err(self.too_deep()) }
    }

    /// Subtracts `nodes` from the number of nodes that the document may still have. Fails if there are too many.
    fn count(&mut self, nodes: usize) -> Result<(), Fault> {
        self.nodes_left = self.nodes_left.checked_sub(nodes).ok_or_else(|| {
            self.fault(&format!(
                "the file has more than {MAX_NODES} values, including those that aliases repeat"
            ))
        })?;
        Ok(())
    }

    fn too_deep(&self) -> Fault {
        self.fault(&format!("is nested deeper than {MAX_DEPTH} levels"))
    }

    fn fault(&self, text: &str) -> Fault {
        Fault { line: self.line, key: self.path.clone(), text: text.to_owned() }
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        let marker = error.marker();
        Fault {
            line: marker.line().max(1),
            key: self.path.clone(),
            text: format!("is not YAML: {} (column {})", error.info(), marker.col() + 1),
        }
    }
}

/// Returns whether a key is a merge key: an unquoted `<<` without a tag, or a `<<` with the tag `!!merge`.
fn is_merge(text: &str, style: ScalarStyle, tag: Option<&Cow<'_, Tag>>) -> bool {
    let is_plain = style == ScalarStyle::Plain && tag.is_none();
    text == MERGE
        && (is_plain || tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "merge"))
}

impl Node {
    /// Returns the number of nodes, and the depth of nested lists and mappings (0 for a single value).
    fn measure(&self) -> (usize, usize) {
        let sum = |children: &mut dyn Iterator<Item = &Self>| {
            children
                .map(Self::measure)
                .fold((1, 1), |(count, height), (c, h)| (count + c, height.max(h + 1)))
        };
        match &self.value {
            Value::Null | Value::Scalar(_) => (1, 0),
            Value::Seq(items) => sum(&mut items.iter()),
            Value::Map(entries) => sum(&mut entries.iter().map(|entry| &entry.node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Writes a node as `line:value`, in YAML flow style. An entry of a mapping is `key@line=value`.
    fn render(node: &Node) -> String {
        let join = |parts: Vec<String>| parts.join(" ");
        let inner = match &node.value {
            Value::Null => "~".to_owned(),
            Value::Scalar(text) => format!("{text:?}"),
            Value::Seq(items) => format!("[{}]", join(items.iter().map(render).collect())),
            Value::Map(entries) => {
                let entry = |e: &Entry| format!("{}@{}={}", e.key, e.line, render(&e.node));
                format!("{{{}}}", join(entries.iter().map(entry).collect()))
            }
        };
        format!("{}:{inner}", node.line)
    }

    fn parsed(text: &str) -> (String, Vec<String>) {
        let (root, faults) = parse(text);
        let faults = faults.iter().map(|f| format!("{} {}: {}", f.line, f.key, f.text)).collect();
        (root.as_ref().map_or_else(String::new, render), faults)
    }

    #[test]
    fn documents_are_parsed_into_trees() {
        // Each case has a document and a part of its tree. In place of the tree, the case has the text "duplicate" if
        // the document contains a key twice.
        for (text, want) in [
            ("", "1:~"),
            ("# nothing\n", "1:~"),
            ("---\n", "2:~"),
            ("\u{feff}a: 1", r#"1:{a@1=1:"1"}"#),
            ("a: ~\nb: ''\nc:\n", "1:{a@1=1:~ b@2=2:\"\" c@3=3:~}"),
            ("a:\n  b: [x, {c: d}]\n", r#"2:{b@2=2:[2:"x" 2:{c@2=2:"d"}]}"#),
            ("- !!str null\n- !custom x\n- ! {a: b}\n", r#"1:[1:"null" 2:"x" 3:{a@3=3:"b"}]"#),
            ("a: &x [1]\nb: *x\n", r#"1:{a@1=1:[1:"1"] b@2=2:[1:"1"]}"#),
            ("&k a: 1\n*k : 2\n", "duplicate"),
            // An entry of the mapping itself takes precedence over a merged entry. The order of the two entries does
            // not matter.
            ("a: &x {k: 1, l: 2}\nb:\n  <<: *x\n  k: 3\n", r#"b@2=3:{k@4=4:"3" l@1=1:"2"}"#),
            ("a: &x {k: 1, l: 2}\nb:\n  k: 3\n  <<: *x\n", r#"b@2=3:{k@3=3:"3" l@1=1:"2"}"#),
            (
                "a: &x {k: 1}\nb: &y {k: 2, l: 3}\nc: {<<: [*x, *y]}\n",
                r#"c@3=3:{k@1=1:"1" l@2=2:"3"}"#,
            ),
            ("a: &x {k: 1}\nb: &y {<<: *x, l: 2}\nc: {<<: *y}\n", r#"c@3=3:{l@2=2:"2" k@1=1:"1"}"#),
            ("a: {<<: {k: 1}, !!merge <<: {l: 2}}\n", "duplicate"),
            ("a: {'<<': {k: 1}}\n", r#"a@1=1:{<<@1=1:{k@1=1:"1"}}"#),
            ("a: |\n  two\n  lines\n", "1:{a@1=2:\"two\\nlines\\n\"}"),
        ] {
            let (tree, faults) = parsed(text);
            if want == "duplicate" {
                assert_eq!(faults.len(), 1, "{text:?}");
                continue;
            }
            assert_eq!(faults, Vec::<String>::new(), "{text:?}");
            assert!(tree.contains(want), "{text:?}: {tree}");
        }
    }

    #[test]
    fn faults_have_line_and_key() {
        let nested = "[".repeat(100);
        for (text, want) in [
            (
                "a:\n  b: 1\n  c: 2\n  b: 3\n",
                "4 a.b: occurs twice (first in line 2); remove one of them",
            ),
            ("a: 1\n---\nb: 2\n", "2 : a second document begins here; write one per file"),
            ("a: &x [*x]\n", "1 a[0]: the alias is inside the value that it refers to"),
            ("a: &x {<<: *x}\n", "1 a.<<: the alias is inside the value that it refers to"),
            (
                "a: {<<: 1}\n",
                "1 a.<<: must be a mapping or a list of mappings, because it is the value of a merge \
                 key",
            ),
            ("a:\n  <<: [{b: 1}, c]\n", "2 a.<<: must be a mapping or a list of mappings"),
            ("a:\n  <<:\n", "2 a.<<: must be a mapping or a list of mappings"),
            ("a: *x\n", "1 a: is not YAML: while parsing node, found unknown anchor (column 4)"),
            ("[a]: b\n", "1 : a key must be a text"),
            (nested.as_str(), "is nested deeper than 64 levels"),
        ] {
            let (_, faults) = parsed(text);
            assert_eq!(faults.len(), 1, "{text:?}: {faults:?}");
            assert!(faults[0].contains(want), "{text:?}: {faults:?}");
        }
        for text in ["a: [1\nb: 2", "a: 'x", "a: b: c", "\tx: y\n- z", "a: \"\\q\""] {
            let (tree, faults) = parsed(text);
            assert!(tree.is_empty() && faults.len() == 1, "{text:?}: {tree} {faults:?}");
        }
    }

    #[test]
    fn many_aliases_exceed_the_limits() {
        // Each of these lines repeats the line before it ten times.
        let mut wide = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let item = format!("*a{}", i - 1);
            wide.push_str(&format!("a{i}: &a{i} [{}]\n", vec![item; 10].join(", ")));
        }
        let (tree, faults) = parsed(&wide);
        assert!(tree.is_empty() && faults[0].contains("more than 100000 values"), "{faults:?}");

        // Each of these lines merges the line before it, and also repeats it ten times.
        let mut merging = "a0: &a0 {k: v}\n".to_owned();
        for i in 1..12 {
            let item = format!("*a{}", i - 1);
            let list = format!("k{i}: [{}]", vec![item.clone(); 10].join(", "));
            merging.push_str(&format!("a{i}: &a{i} {{<<: {item}, {list}}}\n"));
        }
        let (tree, faults) = parsed(&merging);
        assert!(tree.is_empty() && faults[0].contains("more than 100000 values"), "{faults:?}");

        // Each of these lines nests the line before it one level deeper.
        let mut deep = "a0: &a0 x\n".to_owned();
        for i in 1..80 {
            deep.push_str(&format!("a{i}: &a{i} [*a{}]\n", i - 1));
        }
        let (tree, faults) = parsed(&deep);
        assert!(tree.is_empty() && faults[0].contains("deeper than 64"), "{faults:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_parser_never_panics(text in "([-a:?|>&*!%@`,'\"{}\\[\\]# \t\r\n~0.\\\\]|: |- |\n  |\\PC){0,80}") {
            parse(&text);
        }
    }
}
