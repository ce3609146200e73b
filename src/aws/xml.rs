//! What is looked for in an answer of the query protocol, by the local names of its elements.

use roxmltree::{Document, Node};

/// Something that an answer does not hold, and should: what.
pub type Odd = String;

/// Reads a whole answer whose outermost element has to have this name.
pub fn read<T>(text: &str, name: &str, read: impl FnOnce(Node) -> Result<T, Odd>) -> Result<T, Odd> {
    let document = Document::parse(text).map_err(|error| format!("the answer is no XML: {error}"))?;
    let root = document.root_element();
    match root.tag_name().name() {
        found if found == name => read(root),
        found => Err(format!("the answer is a `{found}` instead of a `{name}`")),
    }
}

/// The code and the message of an answer that says why not; empty where it does not say.
pub fn refusal(text: &str) -> (String, String) {
    let Ok(document) = Document::parse(text) else { return Default::default() };
    let error = document.descendants().find(|node| node.has_tag_name_of("Error"));
    let field = |name| error.and_then(|error| text_of(error, name)).unwrap_or_default().to_owned();
    (field("Code"), field("Message"))
}

/// The child of this name.
pub fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name_of(name))
}

/// The elements of the list of this name: a list that is left out is empty.
pub fn items<'a, 'input: 'a>(node: Node<'a, 'input>, list: &str) -> impl Iterator<Item = Node<'a, 'input>> {
    child(node, list).into_iter().flat_map(|list| list.children()).filter(Node::is_element)
}

/// What stands in the child of this name, if anything does.
pub fn text_of<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim).filter(|text| !text.is_empty())
}

/// What has to stand there.
pub fn needed<'a>(node: Node<'a, '_>, name: &str) -> Result<&'a str, Odd> {
    text_of(node, name).ok_or_else(|| format!("a `{}` of the answer has no `{name}`", node.tag_name().name()))
}

trait Tagged {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

/// Whatever its namespace: that changes with the version of the API.
impl Tagged for Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_fields_are_found_in_any_namespace() {
        let text = "<R xmlns=\"http://a/\"><set>\n<item><id> i-1 </id></item>\n<item><id/></item></set></R>";
        let ids =
            read(text, "R", |root| Ok(items(root, "set").map(|it| text_of(it, "id").map(str::to_owned)).collect()));
        assert_eq!(ids, Ok(vec![Some("i-1".to_owned()), None]));
        let odd = read(text, "R", |root| {
            items(root, "set").map(|it| needed(it, "id").map(str::to_owned)).collect::<Result<Vec<_>, _>>()
        });
        assert_eq!(odd, Err("a `item` of the answer has no `id`".to_owned()));
        assert_eq!(read(text, "R", |root| Ok(items(root, "none").count())), Ok(0));
    }

    #[test]
    fn what_is_no_such_answer_is_told_from_one() {
        assert!(read("<html><body>", "R", |_| Ok(())).unwrap_err().contains("no XML"));
        assert!(read("<html/>", "R", |_| Ok(())).unwrap_err().contains("a `html` instead of a `R`"));
        let bomb = "<!DOCTYPE r [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><R>&b;</R>";
        assert!(read(bomb, "R", |_| Ok(())).is_err());
    }

    #[test]
    fn a_refusal_is_read_in_both_forms() {
        let ec2 = "<Response><Errors><Error><Code>UnauthorizedOperation</Code><Message>no</Message></Error></Errors></Response>";
        let others = "<ErrorResponse xmlns=\"http://a/\"><Error><Type>Sender</Type><Code>UnauthorizedOperation</Code>\
                      <Message>no</Message></Error></ErrorResponse>";
        for text in [ec2, others] {
            assert_eq!(refusal(text), ("UnauthorizedOperation".to_owned(), "no".to_owned()));
        }
        assert_eq!(refusal("Bad gateway"), Default::default());
    }
}
