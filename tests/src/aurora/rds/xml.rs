//! Writes XML.

use quick_xml::escape::escape;

/// A document as far as it is written.
#[derive(Default)]
pub(super) struct Xml(String);

impl Xml {
    /// An element (with its attributes, if any) around what `content` writes.
    pub fn element<E>(&mut self, start: &str, content: impl FnOnce(&mut Self) -> Result<(), E>) -> Result<(), E> {
        let name = start.split(' ').next().unwrap_or(start);
        self.0 += &format!("<{start}>");
        content(self)?;
        self.0 += &format!("</{name}>");
        Ok(())
    }

    /// As [`Xml::element`], when nothing can fail.
    pub fn children(&mut self, start: &str, content: impl FnOnce(&mut Self)) {
        let content = |xml: &mut Self| {
            content(xml);
            Ok::<(), std::convert::Infallible>(())
        };
        self.element(start, content).unwrap_or_else(|never| match never {});
    }

    /// An element with a text, a number or a truth value.
    pub fn text(&mut self, name: &str, text: impl ToString) {
        self.0 += &format!("<{name}>{}</{name}>", escape(text.to_string()));
    }

    /// The whole document.
    pub fn into_document(self) -> String {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", self.0)
    }
}
