//! Agreement of raters beyond chance: Cohen's kappa for two raters, Gwet's AC1 and Krippendorff's alpha for any number of
//! raters who may leave units out.

use std::collections::BTreeMap;

/// Cohen's kappa of two raters' categories, unit by unit (Cohen 1960): (observed − expected) / (1 − expected).
/// `None` without units, and where both raters gave every unit the same one category.
///
/// Each entry of `pairs` is one unit: the first rater's category and the second's.
///
/// ```
/// let kappa = realign::stats::cohen_kappa(&[("a", "a"), ("a", "b"), ("b", "b"), ("b", "b")]).unwrap();
/// assert!((kappa - 0.5).abs() < 1e-12);
/// ```
pub fn cohen_kappa<T: Ord>(pairs: &[(T, T)]) -> Option<f64> {
    let n = pairs.len() as f64;
    let mut counts: BTreeMap<&T, (f64, f64)> = BTreeMap::new();
    for (a, b) in pairs {
        counts.entry(a).or_default().0 += 1.0;
        counts.entry(b).or_default().1 += 1.0;
    }
    let observed = pairs.iter().filter(|(a, b)| a == b).count() as f64 / n;
    let expected: f64 = counts.values().map(|(a, b)| a * b).sum::<f64>() / (n * n);
    (!pairs.is_empty() && counts.len() > 1).then(|| (observed - expected) / (1.0 - expected))
}

/// Gwet's AC1 (Gwet 2008): (observed − expected) / (1 − expected), with expected = Σ π (1 − π) / (q − 1) over the q
/// categories of the scale, π a category's share of the ratings. It does not fall where nearly all units are of one
/// category, as kappa does.
///
/// Each unit holds the categories that it was given, one a rater; `categories` is q, those included that nobody used. `None`
/// without a unit that two raters rated, or with fewer than two categories.
///
/// ```
/// let unit = |n, a, b| vec![vec![a, b]; n];
/// let units = [unit(118, 1, 1), unit(5, 1, 2), unit(2, 2, 1)].concat();
/// let ac1 = realign::stats::gwet_ac1(&units, 2).unwrap();
/// assert!((ac1 - 0.9408).abs() < 1e-4);
/// ```
pub fn gwet_ac1<T: Ord>(units: &[Vec<T>], categories: usize) -> Option<f64> {
    let rated: Vec<&Vec<T>> = units.iter().filter(|unit| !unit.is_empty()).collect();
    let (mut observed, mut pairs) = (0.0, 0.0);
    let mut shares: BTreeMap<&T, f64> = BTreeMap::new();
    for unit in &rated {
        let raters = unit.len() as f64;
        let mut counts: BTreeMap<&T, f64> = BTreeMap::new();
        unit.iter().for_each(|category| *counts.entry(category).or_default() += 1.0);
        for (category, count) in &counts {
            *shares.entry(category).or_default() += count / raters / rated.len() as f64;
        }
        if unit.len() > 1 {
            pairs += 1.0;
            observed += counts.values().map(|n| n * (n - 1.0)).sum::<f64>() / (raters * (raters - 1.0));
        }
    }
    let spread: f64 = shares.values().map(|share| share * (1.0 - share)).sum();
    let expected = spread / (categories as f64 - 1.0);
    (pairs > 0.0 && categories > 1).then(|| (observed / pairs - expected) / (1.0 - expected))
}

/// Krippendorff's alpha of categories. Each unit holds the categories that it was given, one a rater; a rater who left
/// the unit out has no entry.
pub fn krippendorff_nominal<T: Ord>(units: &[Vec<T>]) -> Option<f64> {
    alpha(units, |a, b| f64::from(u8::from(a != b)))
}

/// Krippendorff's alpha of numbers on an interval scale: two ratings differ by their squared difference. Units as in
/// [`krippendorff_nominal`].
pub fn krippendorff_interval(units: &[Vec<f64>]) -> Option<f64> {
    alpha(units, |a, b| (a - b) * (a - b))
}

/// 1 − observed / expected disagreement (Krippendorff 2011). Units with fewer than two values are left out. `None`
/// where no unit remains, or where all values are the same.
///
/// Both disagreements are sums over pairs of values: within a unit of m values each pair counts 1 / (m − 1), and over
/// all n values each counts 1 / (n − 1).
fn alpha<T>(units: &[Vec<T>], difference: impl Fn(&T, &T) -> f64) -> Option<f64> {
    let units: Vec<&Vec<T>> = units.iter().filter(|unit| unit.len() > 1).collect();
    let all: Vec<&T> = units.iter().flat_map(|unit| unit.iter()).collect();
    let over_pairs = |values: &[&T]| {
        let pairs = values.iter().enumerate().flat_map(|(i, a)| values[..i].iter().map(move |b| (a, b)));
        2.0 * pairs.map(|(a, b)| difference(a, b)).sum::<f64>() / (values.len() as f64 - 1.0)
    };
    let observed: f64 = units.iter().map(|unit| over_pairs(&unit.iter().collect::<Vec<_>>())).sum();
    let expected = if all.is_empty() { 0.0 } else { over_pairs(&all) };
    (expected > 0.0).then(|| 1.0 - observed / expected)
}
