//! Against scipy, statsmodels, scikit-learn and krippendorff; the scripts of `tests/fixtures/stats/` made the numbers.

use realign::stats::*;
use serde_json::Value;

fn reference(key: &str, check: impl FnMut(&[Value])) {
    rows(include_str!("../fixtures/stats/reference.json"), key, check);
}

fn agreement(key: &str, check: impl FnMut(&[Value])) {
    rows(include_str!("../fixtures/stats/agreement.json"), key, check);
}

fn power(key: &str, check: impl FnMut(&[Value])) {
    rows(include_str!("../fixtures/stats/power.json"), key, check);
}

fn rows(text: &str, key: &str, mut check: impl FnMut(&[Value])) {
    let all: Value = serde_json::from_str(text).unwrap();
    let rows = all[key].as_array().unwrap();
    assert!(!rows.is_empty(), "{key} has rows");
    rows.iter().for_each(|row| check(row.as_array().unwrap()));
}

fn f(v: &Value) -> f64 {
    v.as_f64().unwrap()
}

fn u(v: &Value) -> u64 {
    v.as_u64().unwrap()
}

fn list(v: &Value) -> Vec<f64> {
    v.as_array().unwrap().iter().map(f).collect()
}

#[track_caller]
fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not {expected}");
}

#[test]
fn wilson_equals_statsmodels() {
    reference("wilson", |r| {
        let (low, high) = wilson(u(&r[0]), u(&r[1])).unwrap();
        close(low, f(&r[2]), 1e-12);
        close(high, f(&r[3]), 1e-12);
    });
    assert_eq!(wilson(0, 0), None);
}

#[test]
fn clopper_pearson_equals_statsmodels() {
    reference("clopper_pearson", |r| {
        let (low, high) = clopper_pearson(u(&r[0]), u(&r[1]), 0.05).unwrap();
        close(low, f(&r[2]), 1e-9);
        close(high, f(&r[3]), 1e-9);
    });
    assert_eq!(clopper_pearson(0, 0, 0.05), None);
}

#[test]
fn binomial_cdf_equals_scipy() {
    reference("binomial_cdf", |r| close(binomial_cdf(u(&r[0]), u(&r[1]), f(&r[2])), f(&r[3]), 1e-10));
}

#[test]
fn exact_mcnemar_equals_statsmodels() {
    reference("mcnemar", |r| close(mcnemar_exact(u(&r[0]), u(&r[1])), f(&r[2]), 1e-10));
}

#[test]
fn newcombe_equals_statsmodels() {
    reference("newcombe", |r| {
        let (low, high) = newcombe((u(&r[0]), u(&r[1])), (u(&r[2]), u(&r[3]))).unwrap();
        close(low, f(&r[4]), 1e-12);
        close(high, f(&r[5]), 1e-12);
    });
}

#[test]
fn odds_ratio_equals_statsmodels() {
    reference("odds_ratio", |r| {
        let (ratio, low, high) = odds_ratio(u(&r[0]), u(&r[1]), u(&r[2]), u(&r[3]));
        close(ratio, f(&r[4]), 1e-9);
        close(low, f(&r[5]), 1e-9);
        close(high, f(&r[6]), 1e-9);
    });
}

#[test]
fn rule_of_three_is_the_one_sided_clopper_pearson_bound() {
    reference("rule_of_three", |r| close(rule_of_three(u(&r[0])).unwrap(), f(&r[1]), 1e-12));
    assert_eq!(rule_of_three(0), None);
}

#[test]
fn exact_power_equals_scipy() {
    power("fisher_power", |r| close(fisher_power(f(&r[0]), f(&r[1]), u(&r[2])), f(&r[3]), 1e-9));
    power("mcnemar_power", |r| close(mcnemar_power(f(&r[0]), f(&r[1]), u(&r[2])), f(&r[3]), 1e-9));
    assert_eq!(fisher_power(0.0, 1.0, 3), 0.0, "three against three show nothing");
    close(fisher_power(0.2, 0.6, 30), fisher_power(0.6, 0.2, 30), 1e-12);
    assert_eq!((mcnemar_power(0.0, 0.0, 50), mcnemar_power(1.0, 0.0, 0)), (0.0, 0.0));
}

#[test]
fn what_is_needed_equals_scipy_and_power_does_not_fall_below_it_again() {
    let mut later = 0;
    power("samples_needed", |r| {
        assert_eq!(samples_needed(f(&r[0]), f(&r[1])), Some(u(&r[2])), "{r:?}");
        later += u32::from(u(&r[3]) < u(&r[2]));
    });
    power("pairs_needed", |r| {
        assert_eq!(pairs_needed(f(&r[0]), f(&r[1])), Some(u(&r[2])), "{r:?}");
        assert_eq!(pairs_needed(f(&r[1]), f(&r[0])), Some(u(&r[2])), "either way round: {r:?}");
        later += u32::from(u(&r[3]) < u(&r[2]));
    });
    assert!(later > 0, "some power falls once more after it has reached 80 %");
    // The two numbers that the arcsine approximation halves (48 and 78).
    assert_eq!((samples_needed(0.0, 0.08), samples_needed(0.0, 0.05)), (Some(98), Some(157)));
    for (p, difference) in [(0.5, 0.0), (0.5, 0.6), (0.5, f64::NAN), (-0.1, 0.3), (0.5, 1e-4)] {
        assert_eq!(samples_needed(p, difference), None, "{p} {difference}");
    }
    for (a, b) in [(0.1, 0.1), (0.7, 0.6), (-0.1, 0.3), (f64::NAN, 0.1)] {
        assert_eq!(pairs_needed(a, b), None, "{a} {b}");
    }
}

#[test]
fn the_smallest_difference_that_shows_has_just_enough_power() {
    for (p, n) in [(0.0, 98), (0.04, 400), (0.5, 100), (0.98, 200), (1.0, 60)] {
        let least = minimum_detectable_difference(p, n).unwrap();
        let of = |d: f64| if p + d <= 1.0 { fisher_power(p, p + d, n) } else { fisher_power(p, p - d, n) };
        assert!(of(least) >= 0.8 && of(least - 1e-6) < 0.8, "{p} {n}: {least}");
    }
    assert!(minimum_detectable_difference(0.0, 98).unwrap() <= 0.08);
    assert!(minimum_detectable_difference(0.0, 97).unwrap() > 0.08);
    assert_eq!((minimum_detectable_difference(0.5, 3), minimum_detectable_difference(0.5, 0)), (None, None));
    for (other, n) in [(0.0, 40), (0.05, 200), (0.2, 400)] {
        let least = minimum_detectable_paired(other, n).unwrap();
        let of = |d: f64| mcnemar_power(other + d, other, n);
        assert!(of(least) >= 0.8 && of(least - 1e-6) < 0.8, "{other} {n}: {least}");
    }
    assert_eq!((minimum_detectable_paired(0.0, 5), minimum_detectable_paired(0.5, 100)), (None, None));
}

#[test]
fn answers_to_ask_grow_as_fewer_are_coherent() {
    let asked = [1.0, 0.5, 0.67].map(|share| answers_to_ask(98, share));
    assert_eq!(asked, [Some(98), Some(196), Some(147)]);
    assert_eq!(answers_to_ask(30, 0.3), Some(100));
    assert_eq!([0.0, -1.0, 1.1, f64::NAN].map(|share| answers_to_ask(98, share)), [None; 4]);
}

#[test]
fn power_of_thousands_of_answers_is_found_in_well_under_a_second() {
    let started = std::time::Instant::now();
    let needed = samples_needed(0.5, 0.03).unwrap();
    assert!((4300..4500).contains(&needed), "{needed}");
    assert!(pairs_needed(0.12, 0.1).unwrap() > 4000);
    assert!(minimum_detectable_difference(0.5, 5000).is_some() && minimum_detectable_paired(0.1, 5000).is_some());
    let seconds = started.elapsed().as_secs_f64();
    assert!(seconds < 3.0, "four searches took {seconds:.2} s");
}

#[test]
fn holm_equals_statsmodels() {
    reference("holm", |r| {
        for (found, expected) in holm(&list(&r[0])).into_iter().zip(list(&r[1])) {
            close(found, expected, 1e-12);
        }
    });
}

#[test]
fn percentile_equals_numpy() {
    reference("percentile", |r| close(percentile(&list(&r[0]), f(&r[1])).unwrap(), f(&r[2]), 1e-12));
    assert_eq!(median(&[3.0, 1.0, 2.0, 10.0]), Some(2.5));
    assert_eq!(mean(&[]), None);
}

fn pairs(a: &[f64], b: &[f64]) -> Vec<Pair> {
    a.iter().zip(b).map(|(&a, &b)| Pair { a: (a, 1.0), b: (b, 1.0) }).collect()
}

#[test]
fn exact_sign_flip_equals_scipy() {
    reference("sign_flip", |r| {
        let (p, exact) = sign_flip(&pairs(&list(&r[0]), &list(&r[1])), 0, "test").unwrap();
        assert!(exact);
        close(p, f(&r[2]), 1e-12);
    });
}

#[test]
fn drawn_sign_flip_agrees_with_the_enumerated_one() {
    // Twenty groups, of which ten differ by one: of 2^10 patterns those with 9 or 10 of a sign are as extreme as
    // a difference of 8: 2·(1 + 10) / 1024 = 0.021484.
    let mut a = vec![1.0; 9];
    a.extend([0.0; 11]);
    let mut b = vec![0.0; 9];
    b.extend([1.0]);
    b.extend([0.0; 10]);
    let (p, exact) = sign_flip(&pairs(&a, &b), 0, "test").unwrap();
    assert!(!exact);
    close(p, 22.0 / 1024.0, 0.005);
}

#[test]
fn bootstrap_by_group_approaches_numpys_limit() {
    reference("bootstrap", |r| {
        let groups: Vec<(f64, f64)> = list(&r[0]).into_iter().zip(list(&r[1])).collect();
        let (low, high) = bootstrap_ratio(&groups, 0, "test").unwrap();
        close(low, f(&r[2]), 0.015);
        close(high, f(&r[3]), 0.015);
        assert_eq!(bootstrap_ratio(&groups, 0, "test"), Some((low, high)), "the same seed gives the same bits");
        assert_ne!(bootstrap_ratio(&groups, 1, "test"), Some((low, high)));
    });
    assert_eq!(bootstrap_ratio(&[(1.0, 2.0)], 0, "test"), None, "one group cannot be resampled");
}

#[test]
fn paired_bootstrap_is_narrower_than_its_arms_when_they_move_together() {
    let a: Vec<f64> = (0..20).map(|i| f64::from(i) / 20.0 + 0.1).collect();
    let b: Vec<f64> = (0..20).map(|i| f64::from(i) / 20.0).collect();
    let (low, high) = bootstrap_difference(&pairs(&a, &b), 0, "test").unwrap();
    close(low, 0.1, 1e-9);
    close(high, 0.1, 1e-9);
}

#[test]
fn equivalence_needs_the_whole_interval_inside_the_margin() {
    assert!(equivalent(-0.04, 0.03, 0.05));
    assert!(!equivalent(-0.06, 0.03, 0.05));
    assert!(!equivalent(0.01, 0.06, 0.05));
}

#[test]
fn cohens_kappa_equals_scikit_learns() {
    agreement("kappa", |r| {
        let (a, b) = (list(&r[0]), list(&r[1]));
        let pairs: Vec<(u64, u64)> = a.iter().zip(&b).map(|(&a, &b)| (a as u64, b as u64)).collect();
        close(cohen_kappa(&pairs).unwrap(), f(&r[2]), 1e-12);
    });
    assert_eq!(cohen_kappa(&[("a", "a"), ("a", "a")]), None, "chance alone gives all of it");
    assert_eq!(cohen_kappa::<u8>(&[]), None);
}

#[test]
fn krippendorffs_alpha_equals_the_python_packages() {
    agreement("nominal", |r| {
        let units: Vec<Vec<u64>> =
            r[0].as_array().unwrap().iter().map(|u| list(u).iter().map(|v| *v as u64).collect()).collect();
        close(krippendorff_nominal(&units).unwrap(), f(&r[1]), 1e-12);
    });
    agreement("interval", |r| {
        let units: Vec<Vec<f64>> = r[0].as_array().unwrap().iter().map(list).collect();
        close(krippendorff_interval(&units).unwrap(), f(&r[1]), 1e-9);
    });
    assert_eq!(krippendorff_interval(&[vec![5.0], vec![7.0]]), None, "nobody rated the same unit");
    assert_eq!(krippendorff_nominal(&[vec![1, 1], vec![1, 1]]), None);
}

#[test]
fn points_of_students_t_equal_scipys() {
    // python: [scipy.stats.t.ppf(0.975, df) for df in (1, 2, 3, 4, 9, 10, 29, 100)]
    let expected = [
        (1, 12.706_204_736_174_694),
        (2, 4.302_652_729_749_462),
        (3, 3.182_446_305_283_708),
        (4, 2.776_445_105_197_793),
        (9, 2.262_157_162_798_205),
        (10, 2.228_138_851_986_274),
        (29, 2.045_229_642_132_703),
        (100, 1.983_971_518_523_552),
    ];
    for (df, point) in expected {
        close(t_95(df), point, 1e-9);
    }
    assert!(t_interval(&[1.0]).is_none() && t_interval(&[]).is_none());
}

fn labels(key: &str, check: impl FnMut(&[Value])) {
    rows(include_str!("../fixtures/stats/labels.json"), key, check);
}

#[test]
fn gwets_ac1_equals_irrcac_and_kappa_scikit_learn() {
    labels("ac1", |r| {
        let units: Vec<Vec<u64>> =
            r[0].as_array().unwrap().iter().map(|unit| unit.as_array().unwrap().iter().map(u).collect()).collect();
        close(gwet_ac1(&units, u(&r[1]) as usize).unwrap(), f(&r[2]), 1e-10);
        if let Some(kappa) = r[3].as_f64() {
            let pairs: Vec<(u64, u64)> = units.iter().map(|unit| (unit[0], unit[1])).collect();
            close(cohen_kappa(&pairs).unwrap(), kappa, 1e-12);
        }
    });
    assert_eq!(gwet_ac1::<u8>(&[], 5), None);
    assert_eq!(gwet_ac1(&[vec![1]], 5), None);
    // Where kappa is not defined, all answers of one label, the agreement is whole.
    assert_eq!(gwet_ac1(&[vec![1, 1], vec![1, 1]], 2), Some(1.0));
    assert_eq!(cohen_kappa(&[(1, 1), (1, 1)]), None);
}

#[test]
fn the_stratified_exact_test_equals_enumeration_scipy_and_rs_example() {
    labels("stratified", |r| {
        let tables: Vec<[u64; 4]> = (r[0].as_array().unwrap().iter())
            .map(|t| t.as_array().unwrap().iter().map(u).collect::<Vec<_>>().try_into().unwrap())
            .collect();
        let found = exact_stratified(&tables).unwrap();
        close(found.p, f(&r[1]), 1e-10);
        for (value, expected) in [(found.odds_ratio, &r[2]), (found.low, &r[3]), (found.high, &r[4])] {
            match expected.as_f64() {
                Some(expected) => close(value, expected, 1e-6 * (1.0 + expected)),
                None => assert!(value.is_infinite(), "{value}"),
            }
        }
        // Tables that leave no choice change nothing; the arms swapped, the ratio is turned over.
        let more = [tables.clone(), vec![[3, 0, 9, 0], [0, 5, 0, 2], [0, 0, 4, 4]]].concat();
        close(exact_stratified(&more).unwrap().p, found.p, 1e-12);
        let swapped: Vec<[u64; 4]> = tables.iter().map(|[a, b, c, d]| [*c, *d, *a, *b]).collect();
        let swapped = exact_stratified(&swapped).unwrap();
        close(swapped.p, found.p, 1e-12);
        if found.high.is_finite() && found.high > 0.0 {
            close(swapped.low * found.high, 1.0, 1e-9);
        }
    });
    assert_eq!(exact_stratified(&[]), None);
    assert_eq!(exact_stratified(&[[0, 5, 0, 5], [4, 0, 3, 0], [0, 0, 2, 3]]), None);
    // A thousand answers an arm do not underflow.
    let many = exact_stratified(&[[300, 700, 100, 900]; 4]).unwrap();
    assert!(many.p < 1e-60 && (3.0..5.0).contains(&many.odds_ratio) && many.low > 3.0, "{many:?}");
}
