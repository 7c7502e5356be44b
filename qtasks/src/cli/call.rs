//! Arguments: from `key=value`, or as JSON.

use std::collections::BTreeMap;

use super::target::Function;
use crate::error::{Error, Result};
use crate::json::Json;

/// The arguments of a call: all of them as JSON, or each for itself.
pub(super) fn arguments(pairs: &[String], all: Option<&str>, function: &Function) -> Result<Json> {
    let Some(all) = all else { return of_pairs(pairs, function) };
    let text = match all.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|error| Error::invalid(format!("`--args @{file}` can't be read: {error}")))?,
        None => all.to_owned(),
    };
    let wrong = |error| Error::invalid(format!("`--args` is no JSON: {error}"));
    Json::parse(text.trim()).map_err(wrong)
}

fn of_pairs(pairs: &[String], function: &Function) -> Result<Json> {
    let mut given = BTreeMap::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=') else {
            let takes = function.args.iter().map(|arg| format!(" {}=…", arg.name)).collect::<String>();
            let message = format!("`{pair}` is not KEY=VALUE: `{}` takes{takes}", function.name);
            return Err(Error::invalid(message));
        };
        let ty = function.args.iter().find(|arg| arg.name == key).map_or("", |arg| &arg.ty);
        if given.insert(key, read(value, ty)).is_some() {
            return Err(Error::invalid(format!("`{key}` is given twice")));
        }
    }
    Json::of(&given).map_err(|error| Error::invalid(error.to_string()))
}

/// A value as JSON if it is some, and the type is none of text; else as text.
fn read(value: &str, ty: &str) -> Json {
    let text = || Json::of(value).expect("text is JSON");
    let ty: String = ty.chars().filter(|c| !c.is_whitespace()).collect();
    let optional = ty.strip_prefix("Option<").and_then(|ty| ty.strip_suffix('>'));
    if is_text(optional.unwrap_or(&ty)) && !(optional.is_some() && value == "null") {
        return match value.starts_with('"') {
            // Text that is quoted already.
            true => Json::parse(value).ok().filter(|json| json.get::<String>().is_ok()).unwrap_or_else(text),
            false => text(),
        };
    }
    Json::parse(value.trim()).unwrap_or_else(|_| text())
}

/// Whether a type, as written, is one of text.
fn is_text(ty: &str) -> bool {
    let name = ty.rsplit("::").next().unwrap_or(ty);
    matches!(name, "String" | "PathBuf" | "OsString" | "char" | "Box<str>" | "Arc<str>" | "Box<Path>")
}

#[cfg(test)]
mod tests {
    use super::super::target::Arg;
    use super::*;

    fn function() -> Function {
        let args = [("n", "u64"), ("name", "String"), ("path", "std::path::PathBuf"), ("note", "Option < String >")];
        let args =
            args.map(|(name, ty)| Arg { name: name.to_owned(), ty: ty.to_owned(), required: true, default: None });
        let name = "import".to_owned();
        Function { name, description: None, queue: String::new(), generating: true, args: args.to_vec() }
    }

    fn call(pairs: &[&str]) -> Result<String> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        arguments(&pairs, None, &function()).map(|json| json.to_string())
    }

    #[test]
    fn a_value_is_json_unless_the_argument_is_text() {
        for (pair, json) in [
            ("n=5", r#"{"n":5}"#),
            ("n=five", r#"{"n":"five"}"#),
            ("n=18446744073709551616", r#"{"n":18446744073709551616}"#),
            ("n=[1, 2]", r#"{"n":[1, 2]}"#),
            ("name=5", r#"{"name":"5"}"#),
            ("name=true", r#"{"name":"true"}"#),
            (r#"name="a b""#, r#"{"name":"a b"}"#),
            (r#"name="a" b"#, r#"{"name":"\"a\" b"}"#),
            ("path=1/2", r#"{"path":"1/2"}"#),
            ("note=null", r#"{"note":null}"#),
            ("note=5", r#"{"note":"5"}"#),
            ("other=a=b", r#"{"other":"a=b"}"#),
            ("name=", r#"{"name":""}"#),
        ] {
            assert_eq!(call(&[pair]).unwrap(), json, "{pair}");
        }
        assert_eq!(call(&[]).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_argument_is_told() {
        for (pairs, why) in [
            (&["5"][..], "`5` is not KEY=VALUE: `import` takes n=… name=… path=… note=…"),
            (&["n=1", "n=2"], "`n` is given twice"),
        ] {
            assert_eq!(call(pairs).unwrap_err().to_string(), why);
        }
        let all = |text| arguments(&[], Some(text), &function());
        assert_eq!(all("[5]").unwrap().as_str(), "[5]");
        assert!(all("{n:5}").unwrap_err().to_string().starts_with("`--args` is no JSON: "));
        assert!(
            all("@/there/is/none").unwrap_err().to_string().starts_with("`--args @/there/is/none` can't be read: ")
        );
    }
}
