//! A request of the AWS Query protocol: a flat list of names and values, lists by numbers in the names.

use super::Failure;
use super::xml::Xml;

/// The parameters of a request.
pub(super) struct Request(Vec<(String, String)>);

impl Request {
    /// Reads the query of the URL and the body, either of which may have parameters.
    pub fn parse(query: &[u8], body: &[u8]) -> Self {
        Self(form_urlencoded::parse(query).into_owned().chain(form_urlencoded::parse(body).into_owned()).collect())
    }

    /// What is asked for.
    pub fn action(&self) -> &str {
        self.get("Action").unwrap_or_default()
    }

    /// A parameter; an empty one counts as none.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A parameter that must be there.
    pub fn required(&self, name: &str) -> Result<&str, Failure> {
        self.get(name).ok_or_else(|| Failure::bad_request("MissingParameter", format!("The request must contain the parameter {name}")))
    }

    /// A parameter of some type.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Failure> {
        self.get(name).map(str::parse).transpose().map_err(|_| {
            let value = self.get(name).unwrap_or_default();
            Failure::bad_request("InvalidParameterValue", format!("Invalid value {value} for {name}"))
        })
    }

    /// The values of a list such as `EventCategories.EventCategory.1`.
    pub fn list(&self, prefix: &str) -> Vec<&str> {
        (1..).map_while(|number| self.get(&format!("{prefix}.{number}"))).collect()
    }

    /// Whether something passes all filters. `property` gives what a filter looks at, nothing when there is no such filter.
    pub fn passes(&self, property: impl Fn(&str) -> Option<Vec<String>>) -> Result<bool, Failure> {
        for number in 1.. {
            let Some(name) = self.get(&format!("Filters.Filter.{number}.Name")) else { break };
            let Some(properties) = property(name) else {
                return Err(Failure::bad_request("InvalidParameterValue", format!("Unrecognized filter name: {name}")));
            };
            let values = self.list(&format!("Filters.Filter.{number}.Values.Value"));
            if !values.iter().any(|value| properties.iter().any(|property| property.eq_ignore_ascii_case(value))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes the part of `items` that the request asks for by `MaxRecords` and `Marker`, in an element `list`.
    pub fn page<T>(&self, items: &[T], xml: &mut Xml, list: &str, mut write: impl FnMut(&T, &mut Xml)) -> Result<(), Failure> {
        let most: usize = self.parsed("MaxRecords")?.unwrap_or(100);
        if !(20..=100).contains(&most) {
            let message = format!("Invalid value {most} for MaxRecords. Must be between 20 and 100");
            return Err(Failure::bad_request("InvalidParameterValue", message));
        }
        let begin: usize = self.parsed("Marker")?.unwrap_or(0);
        let end = begin.saturating_add(most).min(items.len());
        if end < items.len() {
            xml.text("Marker", end);
        }
        xml.children(list, |xml| items.get(begin..end).unwrap_or_default().iter().for_each(|item| write(item, xml)));
        Ok(())
    }
}
