//! `--fd N[,N...]=close|null|file:PATH`.

use std::collections::BTreeMap;

use migrate_core::plan::Instead;

/// One such option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    numbers: Vec<i32>,
    instead: Instead,
}

/// Reads one. Err: what is wrong with it.
pub fn parse_fd(text: &str) -> Result<Replacement, String> {
    let (numbers, instead) = text
        .split_once('=')
        .ok_or("numbers, =, and one of close, null, file:PATH, such as 1,2=file:/var/log/work.log")?;
    let number = |text: &str| {
        text.parse::<i32>().ok().filter(|n| *n >= 0).ok_or_else(|| format!("{text:?} is no descriptor's number"))
    };
    let numbers = numbers.split(',').map(number).collect::<Result<Vec<i32>, String>>()?;
    let instead = match instead {
        "close" => Instead::Close,
        "null" => Instead::Null,
        _ => match instead.strip_prefix("file:") {
            Some(path) if path.starts_with('/') => Instead::File(path.into()),
            Some(path) => return Err(format!("{path:?} is no absolute path")),
            None => return Err(format!("{instead:?} is none of close, null, file:PATH")),
        },
    };
    Ok(Replacement { numbers, instead })
}

/// What all of them say; of two for one number, the last.
pub fn by_number(all: &[Replacement]) -> BTreeMap<i32, Instead> {
    all.iter().flat_map(|one| one.numbers.iter().map(|number| (*number, one.instead.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_said() {
        let read = |text: &str| parse_fd(text).map(|one| (one.numbers, one.instead));
        assert_eq!(read("0=close"), Ok((vec![0], Instead::Close)));
        assert_eq!(read("0,1,2=null"), Ok((vec![0, 1, 2], Instead::Null)));
        assert_eq!(read("7=file:/a=b,c"), Ok((vec![7], Instead::File(b"/a=b,c".to_vec()))));
        for bad in ["", "0", "0=", "=null", "-1=null", "x=null", "0,=null", "0=nul", "0=file:", "0=file:log", "0=/log"]
        {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_last_one_counts() {
        let all = ["1,2=null", "2=close"].map(|text| parse_fd(text).unwrap());
        assert_eq!(by_number(&all), BTreeMap::from([(1, Instead::Null), (2, Instead::Close)]));
    }
}
