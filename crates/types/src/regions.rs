//! The region catalogue: names, pairs, places, and whether manual failover is offered.
//!
//! The default has 69 regions. Pairs are a starting point only: a hub stores its own pair when it is made, because some
//! pairs are one-way. A deployment may replace the catalogue by its own file of the same shape.

use crate::ids::RegionName;
use std::fmt;

const DEFAULT: &str = include_str!("regions.csv");
const HEADER: &str =
    "name,display_name,paired_with,geography,latitude,longitude,one_way,manual_failover";

/// One row of the catalogue.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    pub name: RegionName,
    /// As shown to people and in `properties.locations`: "West US 2".
    pub display_name: String,
    /// Where a hub made here has its secondary; `None`: no pair.
    pub paired_with: Option<RegionName>,
    pub geography: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// True when the pair of the pair is another region.
    pub one_way: bool,
    /// False where manual failover is not offered to hubs made here.
    pub manual_failover: bool,
}

/// All regions a deployment knows, in name order.
#[derive(Clone, Debug)]
pub struct Catalogue {
    regions: Vec<Region>,
}

/// Every mistake of a catalogue file, each with its line (from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueErrors(pub Vec<(usize, String)>);

impl fmt::Display for CatalogueErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, why)) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "line {line}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for CatalogueErrors {}

impl Catalogue {
    /// The built-in catalogue.
    pub fn builtin() -> Self {
        Self::parse(DEFAULT).expect("the built-in catalogue is checked by a test")
    }

    /// Reads a catalogue in the shape of the built-in one.
    ///
    /// # Errors
    /// All mistakes at once, each with its line.
    pub fn parse(text: &str) -> Result<Self, CatalogueErrors> {
        let mut errors = Vec::new();
        let mut regions: Vec<Region> = Vec::new();
        let mut lines_of = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            if number == 1 {
                if line.trim() != HEADER {
                    errors.push((1, format!("the first line must be `{HEADER}`")));
                }
                continue;
            }
            if line.trim().is_empty() {
                continue;
            }
            match parse_row(line) {
                Ok(region) => {
                    if regions.iter().any(|r| r.name == region.name) {
                        errors.push((number, format!("region `{}` stands twice", region.name)));
                    }
                    regions.push(region);
                    lines_of.push(number);
                }
                Err(whys) => errors.extend(whys.into_iter().map(|why| (number, why))),
            }
        }
        for (region, line) in regions.iter().zip(&lines_of) {
            let Some(pair) = &region.paired_with else {
                continue;
            };
            match regions.iter().find(|r| r.name == *pair) {
                None => errors.push((*line, format!("pair `{pair}` is not in the catalogue"))),
                Some(_) if *pair == region.name => {
                    errors.push((*line, "a region cannot be its own pair".into()));
                }
                Some(other) => {
                    let mutual = other.paired_with.as_ref() == Some(&region.name);
                    if mutual == region.one_way {
                        errors.push((
                            *line,
                            format!("one_way does not agree with the row of `{pair}`"),
                        ));
                    }
                }
            }
        }
        if !errors.is_empty() {
            errors.sort();
            return Err(CatalogueErrors(errors));
        }
        regions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Catalogue { regions })
    }

    pub fn get(&self, name: &RegionName) -> Option<&Region> {
        self.regions
            .binary_search_by(|r| r.name.cmp(name))
            .ok()
            .map(|at| &self.regions[at])
    }

    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }
}

fn parse_row(line: &str) -> Result<Region, Vec<String>> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    let [
        name,
        display,
        pair,
        geography,
        latitude,
        longitude,
        one_way,
        manual,
    ] = fields[..]
    else {
        return Err(vec![format!("expected 8 fields, found {}", fields.len())]);
    };
    let mut errors = Vec::new();
    let mut keep = |result: Result<(), String>| {
        if let Err(why) = result {
            errors.push(why);
        }
    };
    let parsed_name = RegionName::parse(name);
    keep(
        parsed_name
            .as_ref()
            .map(|_| ())
            .map_err(ToString::to_string),
    );
    let paired_with = (!pair.is_empty()).then(|| RegionName::parse(pair));
    if let Some(Err(why)) = &paired_with {
        keep(Err(format!("paired_with: {why}")));
    }
    if display.is_empty() {
        keep(Err("display_name is empty".into()));
    }
    let degrees = |field: &str, text: &str, max: f64| match text.parse::<f64>() {
        Ok(value) if value.abs() <= max => Ok(value),
        _ => Err(format!("{field} must be a number from -{max} to {max}")),
    };
    let latitude = degrees("latitude", latitude, 90.0);
    keep(latitude.as_ref().map(|_| ()).map_err(Clone::clone));
    let longitude = degrees("longitude", longitude, 180.0);
    keep(longitude.as_ref().map(|_| ()).map_err(Clone::clone));
    let flag = |field: &str, text: &str| {
        text.parse::<bool>()
            .map_err(|_| format!("{field} must be true or false"))
    };
    let one_way = flag("one_way", one_way);
    keep(one_way.as_ref().map(|_| ()).map_err(Clone::clone));
    let manual = flag("manual_failover", manual);
    keep(manual.as_ref().map(|_| ()).map_err(Clone::clone));
    match (
        parsed_name,
        paired_with.transpose(),
        latitude,
        longitude,
        one_way,
        manual,
    ) {
        (
            Ok(name),
            Ok(paired_with),
            Ok(latitude),
            Ok(longitude),
            Ok(one_way),
            Ok(manual_failover),
        ) if errors.is_empty() => Ok(Region {
            name,
            display_name: display.into(),
            paired_with,
            geography: geography.into(),
            latitude,
            longitude,
            one_way,
            manual_failover,
        }),
        _ => Err(errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> Region {
        Catalogue::builtin()
            .get(&RegionName::parse(name).unwrap())
            .unwrap()
            .clone()
    }

    #[test]
    fn the_builtin_catalogue_has_69_regions_and_six_without_manual_failover() {
        let all = Catalogue::builtin();
        assert_eq!(all.iter().count(), 69);
        let excluded: Vec<_> = all
            .iter()
            .filter(|r| !r.manual_failover)
            .map(|r| r.name.as_str())
            .collect();
        assert_eq!(
            excluded,
            [
                "brazilsouth",
                "eastus",
                "northeurope",
                "southcentralus",
                "westeurope",
                "westus"
            ]
        );
    }

    #[test]
    fn pairs_may_be_one_way_or_missing() {
        assert_eq!(
            region("westus2").paired_with.unwrap().as_str(),
            "westcentralus"
        );
        assert!(!region("westus2").one_way);
        assert_eq!(region("westus3").paired_with.unwrap().as_str(), "eastus");
        assert!(region("westus3").one_way);
        assert_eq!(region("polandcentral").paired_with, None);
    }

    #[test]
    fn every_mistake_of_a_file_is_named_with_its_line() {
        let file = format!(
            "{HEADER}\nwest,West,east,X,1,2,false,true\neast,,nowhere,X,91,2,maybe,true\nwest,West,,X,1\n"
        );
        let errors = Catalogue::parse(&file).unwrap_err().0;
        let lines: Vec<usize> = errors.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 3, 3, 4], "{errors:?}");
    }
}
