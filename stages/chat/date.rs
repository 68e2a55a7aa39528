//! A day, and Python's `strftime` of its midnight. Reads no clock.

use minijinja::{Error, ErrorKind};

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// From 1.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

impl Date {
    /// The text that a format gives, in the C locale; a directive that is not known is an error that names it.
    pub fn strftime(self, format: &str) -> Result<String, Error> {
        let (mut text, mut letters) = (String::new(), format.chars());
        while let Some(letter) = letters.next() {
            if letter != '%' {
                text.push(letter);
                continue;
            }
            match letters.next() {
                // glibc: no leading zero.
                Some('-') => text.push_str(self.part(letters.next(), format)?.trim_start_matches('0')),
                directive => text.push_str(&self.part(directive, format)?),
            }
        }
        Ok(text)
    }

    fn part(self, directive: Option<char>, format: &str) -> Result<String, Error> {
        let month = MONTHS[(self.month as usize - 1).min(11)];
        let weekday = DAYS[self.weekday()];
        Ok(match directive {
            Some('Y') => format!("{:04}", self.year),
            Some('y') => format!("{:02}", self.year % 100),
            Some('m') => format!("{:02}", self.month),
            Some('d') => format!("{:02}", self.day),
            Some('e') => format!("{:2}", self.day),
            Some('B') => month.to_string(),
            Some('b') => month[..3].to_string(),
            Some('A') => weekday.to_string(),
            Some('a') => weekday[..3].to_string(),
            Some('H' | 'M' | 'S') => "00".to_string(),
            Some('I') => "12".to_string(),
            Some('p') => "AM".to_string(),
            Some('F') => self.strftime("%Y-%m-%d")?,
            Some('T') => "00:00:00".to_string(),
            Some('%') => "%".to_string(),
            _ => {
                let problem = format!("strftime_now('{format}'): not all of its directives are known here");
                return Err(Error::new(ErrorKind::InvalidOperation, problem));
            }
        })
    }

    // Sakamoto's rule; Sunday is 0.
    fn weekday(self) -> usize {
        const SHIFT: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        ((year + year / 4 - year / 100 + year / 400 + SHIFT[(self.month as usize - 1).min(11)] + self.day) % 7) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_written_as_python_writes_it() {
        let day = Date { year: 2024, month: 7, day: 6 };
        let written = |format: &str| day.strftime(format).expect("is known");
        assert_eq!(written("%d %b %Y, %A %B %-d"), "06 Jul 2024, Saturday July 6");
        assert_eq!(written("%F %H:%M:%S %a %y %e %I%p 100%%"), "2024-07-06 00:00:00 Sat 24  6 12AM 100%");
        assert_eq!(Date { year: 2000, month: 2, day: 29 }.strftime("%a").expect("is known"), "Tue");
        assert!(day.strftime("%Q").is_err_and(|error| error.to_string().contains("'%Q'")));
        assert!(day.strftime("%").is_err());
    }
}
