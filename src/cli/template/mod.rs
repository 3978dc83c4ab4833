//! `--format`: what is printed of each object, as a template of Go's, in which Docker's users write it
//! (<https://pkg.go.dev/text/template>).
//!
//! Actions are printed pipelines, `if`, `range`, `with`, variables and comments. The functions are those
//! of Go that make sense here and those that Docker adds; see [`functions`].

mod eval;
mod functions;
mod parse;
mod printf;
mod shape;

use std::str::FromStr;

use serde_json::Value;

use parse::Node;

/// Names of fields in templates, each with that in JSON.
pub(super) type Names = &'static [(&'static str, &'static str)];

/// A template that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    nodes: Vec<Node>,
}

impl Template {
    /// What it says of one object.
    pub(super) fn render(&self, object: &Value) -> anyhow::Result<String> {
        self.render_named(object, &[])
    }

    /// The same, of an object some of whose fields have other names in templates than in JSON, as Go's
    /// structs do.
    pub(super) fn render_named(&self, object: &Value, names: Names) -> anyhow::Result<String> {
        eval::render(&self.nodes, object, names)
    }

    /// Whether it asks for a field of this name, as `.Size` or by `index . "Size"`.
    pub(super) fn mentions(&self, name: &str) -> bool {
        parse::has_operand(&self.nodes, &|operand| operand.names(name))
    }

    /// Whether such a field may be seen: by its name, or with the whole object.
    pub(super) fn may_show(&self, name: &str) -> bool {
        let shows = |operand: &parse::Operand| operand.names(name) || operand.is_whole();
        parse::has_operand(&self.nodes, &shows)
    }

    /// Whether that is the object itself, as JSON.
    pub(super) fn is_json(&self) -> bool {
        parse::is_json_of_all(&self.nodes)
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse::parse(text).map(|nodes| Self { nodes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object() -> Value {
        json!({
            "Name": "web",
            "Empty": "",
            "Up": true,
            "Code": 3,
            "Health": null,
            "Args": ["-c", "a b"],
            "Net": {"b": {"IP": "10.0.0.2"}, "a": {"IP": "10.0.0.1"}},
        })
    }

    fn rendered(text: &str) -> String {
        let template: Template = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        let said = template.render(&object());
        said.unwrap_or_else(|error| panic!("{text}: {error:#}"))
    }

    #[test]
    fn templates_say_what_go_says() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{{.Name}}", "web"),
            ("{{ .Name }}:{{.Code}}", "web:3"),
            ("a {{- .Name -}} b", "awebb"),
            ("{{/* nothing */}}x", "x"),
            ("{{.Args}}", "[-c a b]"),
            ("{{.Net}}", "map[a:map[IP:10.0.0.1] b:map[IP:10.0.0.2]]"),
            ("{{.Health}} {{print .Health}}", "<nil> <nil>"),
            ("{{json .Args}}", r#"["-c","a b"]"#),
            ("{{.Name | upper | printf \"%s!\"}}", "WEB!"),
            (
                "{{printf \"%-5s|%03d|%q\" .Name .Code .Name}}",
                "web  |003|\"web\"",
            ),
            (
                "{{printf \"%.2s|%4.1s|%-4.1s|%.5s\" .Name .Name .Name .Name}}",
                "we|   w|w   |web",
            ),
            (
                "{{printf \"%x %x %04x %t %T\" .Name 255 10 .Up .Code}}",
                "776562 ff 000a true int",
            ),
            (
                "{{printf \"%q %.1s\" .Args .Args}}",
                r#"["-c" "a b"] [- a]"#,
            ),
            ("{{printf \"%04d %.3d %-4d|\" -3 7 5}}", "-003 007 5   |"),
            (
                "{{slice .Name 1}} {{slice .Name 0 2}} {{slice .Args 1 2}}",
                "eb we [a b]",
            ),
            ("{{html \"<a b='c'>&\"}}", "&lt;a b=&#39;c&#39;&gt;&amp;"),
            ("{{urlquery \"a b/é~*\"}}", "a+b%2F%C3%A9~%2A"),
            (
                "{{with $net := .Net.a}}{{$net.IP}} {{.IP}}{{end}}",
                "10.0.0.1 10.0.0.1",
            ),
            (
                "{{$x := 1}}{{with $x := .Health}}{{else}}{{$x}}{{end}}{{$x}}",
                "<nil>1",
            ),
            (
                "{{if $x := .Empty}}{{else if $y := .Code}}{{$x}}{{$y}}{{end}}",
                "3",
            ),
            ("{{join .Args \",\"}}", "-c,a b"),
            ("{{(index (split \"a:b\" \":\") 1)}}", "b"),
            ("{{title .Name}} {{truncate .Name 2}}", "Web we"),
            ("{{pad .Name 1 2}}.", " web  ."),
            (
                "{{len .Args}} {{index .Args 1}} {{index .Net \"a\" \"IP\"}}",
                "2 a b 10.0.0.1",
            ),
            (
                "{{(.Net.a \"IP\")}} {{.Args 0}} {{.Net \"c\"}}.",
                "10.0.0.1 -c .",
            ),
            ("{{if .Up}}up{{else}}down{{end}}", "up"),
            (
                "{{if .Empty}}a{{else if eq .Code 3 4}}b{{else}}c{{end}}",
                "b",
            ),
            (
                "{{if and .Health (eq .Health.Status \"x\")}}a{{else}}b{{end}}",
                "b",
            ),
            ("{{or .Empty .Name}} {{not .Up}}", "web false"),
            ("{{range .Args}}<{{.}}>{{end}}", "<-c><a b>"),
            (
                "{{range $i, $a := .Args}}{{$i}}={{$a}};{{end}}",
                "0=-c;1=a b;",
            ),
            (
                "{{range $name, $net := .Net}}{{$name}} {{$net.IP}} {{end}}",
                "a 10.0.0.1 b 10.0.0.2 ",
            ),
            (
                "{{range .Net}}{{.IP}} {{$.Name}} {{end}}",
                "10.0.0.1 web 10.0.0.2 web ",
            ),
            ("{{range .Empty}}a{{else}}none{{end}}", "none"),
            (
                "{{with .Net.a}}{{.IP}}{{end}}{{with .Health}}x{{else}}ill{{end}}",
                "10.0.0.1ill",
            ),
            ("{{$x := .Code}}{{if lt $x 5}}{{$x = 7}}{{end}}{{$x}}", "7"),
            (
                "{{println .Name}}{{print .Code 1 \"a\" \"b\"}}",
                "web\n3 1ab",
            ),
            ("{{`raw }}`}} {{\"tab\\t\"}}", "raw }} tab\t"),
            (
                "{{ne .Code 3}} {{gt .Code 2}} {{ge 2 2}} {{le \"a\" \"b\"}}",
                "false true true true",
            ),
        ] {
            assert_eq!(rendered(text), expected, "{text}");
        }
    }

    #[test]
    fn what_go_knows_of_types_is_told_from_the_name_of_a_field() {
        let object = json!({"Config": {
            "Labels": {"a": "b"},
            "Volumes": null,
            "Entrypoint": null,
            "Healthcheck": null,
        }});
        for (text, expected) in [
            ("{{.Config.Labels.a}} {{.Config.Labels.no}}", "b <no value>"),
            ("{{.Config.Labels.no.more}}", "<no value>"),
            ("{{with .Config.Labels}}{{.no}}{{end}}", "<no value>"),
            ("{{$l := .Config.Labels}}{{$l.no}}", "<no value>"),
            ("{{if .Config.Labels.no}}a{{else}}b{{end}}", "b"),
            ("{{json .Config.Labels.no}}", "null"),
            (
                "{{.Config.Volumes}} {{.Config.Volumes.no}}",
                "map[] <no value>",
            ),
            ("{{index .Config.Volumes \"no\"}}.", "."),
            ("{{.Config.Entrypoint}} {{len .Config.Entrypoint}}", "[] 0"),
            (
                "{{printf \"%v\" (or .Config.Volumes .Config.Entrypoint)}}",
                "[]",
            ),
            (
                "{{json .Config.Entrypoint}} {{json .Config.Volumes}}",
                "null null",
            ),
            (
                "{{.Config.Healthcheck}} {{json .Config.Healthcheck}}",
                "<nil> null",
            ),
        ] {
            let template: Template = text.parse().expect(text);
            assert_eq!(template.render(&object).expect(text), expected, "{text}");
        }
        for text in ["{{.Config.no}}", "{{.Config.Healthcheck.Test}}"] {
            let template: Template = text.parse().expect(text);
            assert!(template.render(&object).is_err(), "{text}");
        }
    }

    #[test]
    fn fields_have_their_names_in_go_beside_those_in_json() {
        let names: Names = &[("Label", "Name"), ("IPAddress", "IP")];
        for (text, expected) in [
            ("{{.Label}} {{.Name}}", "web web"),
            ("{{range .Net}}{{.IPAddress}} {{end}}", "10.0.0.1 10.0.0.2 "),
            ("{{json .Net.a}}", r#"{"IP":"10.0.0.1"}"#),
        ] {
            let template: Template = text.parse().expect(text);
            assert_eq!(template.render_named(&object(), names).unwrap(), expected);
        }
        let template: Template = "{{.Label.IP}}".parse().unwrap();
        assert!(template.render_named(&object(), names).is_err());
        assert!(template.render(&object()).is_err());
    }

    #[test]
    fn what_a_template_asks_for_is_found_wherever_it_stands() {
        for (text, expected) in [
            ("{{.Size}}", true),
            ("{{.Name}} {{.A.Size}}", true),
            (r#"{{index . "Size"}}"#, true),
            ("{{if .Size}}x{{end}}", true),
            ("{{if .Name}}x{{else}}{{.Size}}{{end}}", true),
            ("{{range .Net}}{{.Size | json}}{{end}}", true),
            (
                "{{with .Name}}{{upper (printf \"%s\" $.Size)}}{{end}}",
                true,
            ),
            ("{{$x := .Size}}", true),
            ("Size {{.Sized}}", false),
            ("{{json .}}", false),
        ] {
            let template: Template = text.parse().expect(text);
            assert_eq!(template.mentions("Size"), expected, "{text}");
            assert_eq!(template.is_json(), text == "{{json .}}", "{text}");
        }
    }

    #[test]
    fn what_is_no_template_is_said() {
        for (text, expected) in [
            ("{{.Name", "`{{` without `}}`"),
            ("{{if .Up}}", "`{{if}}` without `{{end}}`"),
            ("{{end}}", "`{{end}}` without"),
            ("{{else}}", "`{{else}}` without"),
            ("{{}}", "nothing between"),
            ("{{frobnicate .Name}}", "no function `frobnicate`"),
            ("{{\"open}}", "without its end"),
            ("{{(.Name}}", "`(` without `)`"),
            ("{{.Name | }}", "nothing after `|`"),
            ("{{template \"x\"}}", "`template` is not built"),
            ("{{.Name ~}}", "`~`"),
            ("{{$y}}", "no variable `$y`"),
            ("{{with $x := .Net}}{{end}}{{$x}}", "no variable `$x`"),
            ("{{if $x := .Net}}{{end}}{{$x}}", "no variable `$x`"),
            ("{{\"a\" 1}}", "only a function takes arguments"),
        ] {
            let error = text.parse::<Template>().expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        for (text, expected) in [
            (
                "{{.Nmae}}",
                "no field `Nmae`; there are Args, Code, Empty, Health, Name, Net, Up",
            ),
            ("{{.Health.Status}}", "`Status` of nothing"),
            ("{{.Name.First}}", "`First` of a text"),
            ("{{index .Args 2}}", "no element 2"),
            ("{{range .Code}}{{end}}", "range over a number"),
            ("{{len .Code}}", "length of a number"),
            ("{{join .Name \",\"}}", "join"),
            ("{{printf \"%d\" .Name}}", "%d"),
            ("{{printf \"%.9999s\" .Name}}", "precision"),
            ("{{slice .Name 2 9}}", "no part from 2 to 9 in a text of 3"),
            ("{{and}}", "and of nothing"),
            ("{{lt .Name 1}}", "compare"),
        ] {
            let template: Template = text.parse().expect(text);
            let error = format!("{:#}", template.render(&object()).expect_err(text));
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
