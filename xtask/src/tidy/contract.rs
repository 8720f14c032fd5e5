//! The contract names every table and every column of the schemas, and none that is not there.

use std::collections::BTreeSet;

use super::Finding;
use super::tree::Tree;

const CONTRACT: &str = "docs/contract.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(contract) = tree.file(CONTRACT) else {
        return vec![Finding::new(CONTRACT, 0, "there is no contract")];
    };
    let migrations = tree.ending(".sql").filter(|file| file.path.contains("/migrations/"));
    let made: BTreeSet<_> = migrations.flat_map(|file| columns(&file.text)).collect();
    let told = described(&contract.text);
    let missing = made.difference(&told).map(|(table, column)| {
        Finding::new(CONTRACT, 0, format!("column `{column}` of `{table}` is not described"))
    });
    let gone = told.difference(&made).map(|(table, column)| {
        Finding::new(CONTRACT, 0, format!("there is no column `{column}` in `{table}`"))
    });
    missing.chain(gone).collect()
}

/// Table and column of every `CREATE TABLE` whose columns stand on lines of their own, indented
/// by four. A partition has those of its table.
fn columns(sql: &str) -> Vec<(String, String)> {
    let mut columns = Vec::new();
    let mut table = None;
    for line in sql.lines() {
        if let Some(rest) = line.strip_prefix("CREATE TABLE ") {
            table = rest.split([' ', '(']).next().filter(|_| !rest.contains(" PARTITION OF "));
        } else if line.starts_with(')') {
            table = None;
        } else if let Some((table, column)) = table.zip(line.strip_prefix("    ")) {
            let name: String =
                column.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if !name.is_empty() {
                columns.push((table.to_owned(), name));
            }
        }
    }
    columns
}

/// Table and column of every row of a table that stands under the heading of a table.
fn described(contract: &str) -> BTreeSet<(String, String)> {
    let mut columns = BTreeSet::new();
    let mut table = None;
    for line in contract.lines() {
        if line.starts_with('#') {
            table = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`'));
        } else if let Some((table, row)) = table.zip(line.strip_prefix("| `"))
            && let Some((column, _)) = row.split_once('`')
        {
            columns.insert((table.to_owned(), column.to_owned()));
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    const SQL: &str = "CREATE TABLE t (\n    -- An id.\n    id TEXT,\n    CHECK (id <> ''),\n    \
                       PRIMARY KEY (id)\n);\nCREATE TABLE t_1 PARTITION OF t\n    \
                       for values from (1) to (2);\n";

    fn findings(contract: &str) -> Vec<String> {
        let tree = Tree::of(&[("db/migrations/1.sql", SQL), (CONTRACT, contract)]);
        check(&tree).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_column_that_is_not_described_or_not_there_is_found() {
        assert!(findings("### `t`\n\n| `id` | text | An id. |\n").is_empty());
        assert_eq!(findings("### `t`\n"), ["column `id` of `t` is not described"]);
        let extra = "### `t`\n| `id` | text | An id. |\n| `no` | text | Not there. |\n";
        assert_eq!(findings(extra), ["there is no column `no` in `t`"]);
    }
}
