//! Which language is a text in? By script where the script decides, else by the most frequent words. Knows the
//! languages of IFEval's prompts and the larger ones they are confused with; no language model.

/// Whether a text reads as the language of that ISO 639-1 code. A text without letters passes, as it does in the
/// original checker, whose detector then gives up.
#[must_use]
pub fn is_in(code: &str, text: &str) -> bool {
    detect(text).is_none_or(|found| found == code)
}

/// Whether the rules know the code at all.
#[must_use]
pub fn is_known(code: &str) -> bool {
    SCRIPTS.iter().any(|(known, ..)| *known == code) || FREQUENT.iter().any(|(known, ..)| *known == code)
}

// Code and Unicode block, for scripts that serve one language here.
const SCRIPTS: [(&str, u32, u32); 11] = [
    ("ko", 0xAC00, 0xD7AF),
    ("ja", 0x3040, 0x30FF),
    ("zh", 0x4E00, 0x9FFF),
    ("th", 0x0E00, 0x0E7F),
    ("kn", 0x0C80, 0x0CFF),
    ("ta", 0x0B80, 0x0BFF),
    ("te", 0x0C00, 0x0C7F),
    ("gu", 0x0A80, 0x0AFF),
    ("bn", 0x0980, 0x09FF),
    ("pa", 0x0A00, 0x0A7F),
    ("el", 0x0370, 0x03FF),
];

// Code, the script that it shares, and words that are frequent in it and rare in the others of the script.
const FREQUENT: [(&str, Script, &str); 21] = [
    ("hi", Script::Devanagari, "है हैं और के में की का को से यह एक पर नहीं करने लिए भी हो"),
    (
        "mr",
        Script::Devanagari,
        "आहे आणि आहेत च्या मध्ये हे या तो ती होते नाही झाला झाली चांगला चांगले माझ्या एक साठी आपल्या करण्यासाठी",
    ),
    ("ne", Script::Devanagari, "छ र छन् मा को हो यो पनि गर्न भएको लागि तपाईं गर्नुहोस् हुन्छ गर्ने एक"),
    ("ru", Script::Cyrillic, "и в не на что с это как по но из у за от так же для вы я мы ы"),
    ("bg", Script::Cyrillic, "и на да се за от е с не са в по като ще до или това си ви"),
    ("uk", Script::Cyrillic, "і в на що з не це як та до у за від є для ви ми ї"),
    ("ar", Script::Arabic, "في من على إلى أن هذا هذه التي الذي و لا مع عن كان ما ة"),
    ("fa", Script::Arabic, "در و به از که این را با است برای می آن های یک شما ها"),
    ("ur", Script::Arabic, "کے میں کی ہے اور سے کا کو ہیں یہ پر نے ایک نہیں لیے بھی"),
    (
        "en",
        Script::Latin,
        "the and of to in is that it for was on with as are this be you your i at by have not a my so no from his her will can but they which all or if we our",
    ),
    ("de", Script::Latin, "der die und das ist nicht ein eine zu den mit sie ich auf für im von dem es wie auch sich"),
    ("fr", Script::Latin, "le la les et des est une un dans que pour qui pas vous du sur avec au ce il nous"),
    ("es", Script::Latin, "el la los de y que en es una un por con para las se del su al lo como más"),
    (
        "it",
        Script::Latin,
        "il di che la e è un una per non sono con del della le si da mi lo gli nel anche sul sulla dalla alla notte mare",
    ),
    ("pt", Script::Latin, "o de que e a do da em um para é com uma os no se na por mais as dos não você"),
    ("nl", Script::Latin, "de het een en van ik te dat die in is niet zijn op met voor je er aan"),
    ("fi", Script::Latin, "ja on ei että se hän oli mutta ovat kun joka myös niin kuin tai voi olla ole tämä"),
    ("sv", Script::Latin, "och att det som en på är av för med den till inte jag har ett om"),
    ("sw", Script::Latin, "na ya wa kwa ni katika za la kuwa hii cha au pia kama yako sana watu lakini hiyo ambayo"),
    ("vi", Script::Latin, "và của là có không cho một được các người trong với những này để đã khi bạn tôi"),
    ("id", Script::Latin, "yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke adalah"),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Devanagari,
    Cyrillic,
    Arabic,
    Latin,
}

impl Script {
    const ALL: [Self; 4] = [Self::Devanagari, Self::Cyrillic, Self::Arabic, Self::Latin];

    fn holds(self, letter: char) -> bool {
        match self {
            Self::Devanagari => ('\u{0900}'..='\u{097F}').contains(&letter),
            Self::Cyrillic => ('\u{0400}'..='\u{04FF}').contains(&letter),
            Self::Arabic => ('\u{0600}'..='\u{06FF}').contains(&letter),
            Self::Latin => {
                letter.is_ascii_alphabetic()
                    || ('\u{00C0}'..='\u{024F}').contains(&letter)
                    || ('\u{1E00}'..='\u{1EFF}').contains(&letter)
            }
        }
    }
}

fn detect(text: &str) -> Option<&'static str> {
    let letters: Vec<char> = text.chars().filter(|c| c.is_alphabetic()).collect();
    if letters.is_empty() {
        return None;
    }
    let in_block = |&(code, from, to): &(&'static str, u32, u32)| {
        let count = letters.iter().filter(|letter| (from..=to).contains(&(**letter as u32))).count();
        (count, code)
    };
    let own_script = SCRIPTS.iter().map(in_block).max_by_key(|(count, _)| *count);
    if let Some((count, code)) = own_script.filter(|(count, _)| count * 3 > letters.len()) {
        // Japanese mixes its own letters with Chinese ones.
        let kana = letters.iter().any(|letter| ('\u{3040}'..='\u{30FF}').contains(letter));
        return Some(if code == "zh" && kana && count > 0 { "ja" } else { code });
    }
    let count_of = |script: Script| letters.iter().filter(|letter| script.holds(**letter)).count();
    let script = Script::ALL.into_iter().max_by_key(|script| count_of(*script))?;
    Some(by_words(script, &text.to_lowercase()))
}

fn by_words(script: Script, text: &str) -> &'static str {
    let words: Vec<&str> =
        text.split(|c: char| !(c.is_alphabetic() || is_vowel_sign(c))).filter(|word| !word.is_empty()).collect();
    let score = |frequent: &str| {
        let frequent: Vec<&str> = frequent.split(' ').collect();
        words.iter().filter(|word| frequent.contains(word)).count()
    };
    // The first of equals wins: English among the Latin ones, as short English texts have no frequent word at all.
    let candidates = FREQUENT.iter().filter(|(_, shared, _)| *shared == script);
    let mut best = ("en", 0);
    for (code, _, frequent) in candidates {
        let points = score(frequent);
        if points > best.1 || (best.1 == 0 && best.0 == "en" && script != Script::Latin) {
            best = (code, points);
        }
    }
    best.0
}

// Signs that are part of a word in Indic scripts and that Unicode does not call letters.
fn is_vowel_sign(c: char) -> bool {
    ('\u{0900}'..='\u{0DFF}').contains(&c) && !c.is_whitespace() && c != '\u{0964}'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart() {
        for (code, text) in [
            ("en", "The cat sat on the mat and looked at you."),
            ("de", "Ich gehe mit der Katze in den Garten und das ist schön."),
            ("it", "Il gatto è sul tavolo e non si muove per niente."),
            ("pt", "O gato está em cima da mesa e não se mexe para você."),
            ("vi", "Tôi không có thời gian cho những việc này."),
            ("sw", "Watu wa nchi hii ni wakarimu sana kwa wageni."),
            ("fi", "Tämä on hyvä kirja, mutta se ei ole uusi ja hän tietää sen."),
            ("hi", "यह एक अच्छी किताब है और मुझे पसंद है।"),
            ("mr", "हे पुस्तक चांगले आहे आणि मला आवडते."),
            ("ne", "यो किताब राम्रो छ र मलाई मन पर्छ।"),
            ("ru", "Я не знаю, что это за книга."),
            ("bg", "Това е книга за хора, които искат да се учат."),
            ("ar", "هذا الكتاب جيد من أجل القراءة في البيت"),
            ("fa", "این کتاب برای خواندن در خانه است"),
            ("ur", "یہ کتاب گھر میں پڑھنے کے لیے ہے"),
            ("ko", "이 책은 좋다"),
            ("th", "หนังสือเล่มนี้ดี"),
        ] {
            assert!(is_known(code) && is_in(code, text), "{code}: {:?}", detect(text));
        }
        assert!(!is_in("de", "The cat sat on the mat."));
        assert!(is_in("de", "12345"));
    }
}
