#include "eval/ptb_parts.h"

size_t bif_ptb_spelt(const bif_ptb_view *p, size_t i, const char *word)
{
    size_t n = 0;
    for (; *word != '\0'; word++, n++) {
        const uint32_t c = at(p, i + n);
        if (*word == '^') {
            word++;
            if (c != (unsigned char)*word) {
                return 0;
            }
        } else if (c != (unsigned char)*word && (!is_ascii_letter(c) || (c ^ 32) != (unsigned char)*word)) {
            return 0;
        }
    }
    return n;
}

size_t bif_ptb_one_of(const bif_ptb_view *p, size_t i, const char *const *words)
{
    size_t best = 0;
    for (; *words != NULL; words++) {
        const size_t n = bif_ptb_spelt(p, i, *words);
        best = n > best ? n : best;
    }
    return best;
}

size_t bif_ptb_run(const bif_ptb_view *p, size_t i, bool (*is)(uint32_t))
{
    size_t n = 0;
    while (is(at(p, i + n))) {
        n++;
    }
    return n;
}

size_t bif_ptb_run_of(const bif_ptb_view *p, size_t i, char c)
{
    size_t n = 0;
    while (at(p, i + n) == (unsigned char)c) {
        n++;
    }
    return n;
}

size_t bif_ptb_apostrophe(const bif_ptb_view *p, size_t i)
{
    const uint32_t c = at(p, i);
    return c == '\'' || c == 0x92 || c == 0x2019 ? 1 : bif_ptb_spelt(p, i, "&apos;");
}

size_t bif_ptb_inner_apostrophe(const bif_ptb_view *p, size_t i)
{
    const uint32_t c = at(p, i);
    return c == '`' || c == 0x91 || c == 0x2018 || c == 0x201b ? 1 : bif_ptb_apostrophe(p, i);
}

size_t bif_ptb_one_letter(const bif_ptb_view *p, size_t i)
{
    const uint32_t c = at(p, i);
    if (c == '&' && in("aeiouAEIOU", at(p, i + 1))) {
        const size_t n = BIF_PTB_ONE_OF(p, i + 2, "acute;", "grave;", "uml;");
        return n > 0 ? n + 2 : 0;
    }
    return bif_ptb_letter(c) || bif_ptb_mark(c);
}

static size_t letters_and_digits(const bif_ptb_view *p, size_t i)
{
    size_t n = bif_ptb_one_letter(p, i);
    for (size_t step = n; step > 0; n += step) {
        step = bif_ptb_digit(at(p, i + n)) ? 1 : bif_ptb_one_letter(p, i + n);
    }
    return n;
}

size_t bif_ptb_word(const bif_ptb_view *p, size_t i)
{
    size_t n = letters_and_digits(p, i);
    for (size_t more; n > 0 && in(".!?", at(p, i + n)) && (more = letters_and_digits(p, i + n + 1)) > 0;) {
        n += 1 + more;
    }
    return n;
}

size_t bif_ptb_short_verb(const bif_ptb_view *p, size_t i)
{
    const size_t quote = bif_ptb_apostrophe(p, i);
    const size_t n = quote > 0 ? BIF_PTB_ONE_OF(p, i + quote, "s", "m", "d", "re", "ve", "ll") : 0;
    return n > 0 ? quote + n : 0;
}

size_t bif_ptb_short_not(const bif_ptb_view *p, size_t i)
{
    const size_t n = bif_ptb_spelt(p, i, "n"), quote = n > 0 ? bif_ptb_inner_apostrophe(p, i + 1) : 0;
    return quote > 0 && bif_ptb_spelt(p, i + 1 + quote, "t") > 0 ? quote + 2 : 0;
}

size_t bif_ptb_before_not(const bif_ptb_view *p, size_t i, size_t *tail)
{
    size_t n = 0;
    while (is_ascii_letter(at(p, i + n)) || at(p, i + n) == 0xad) {
        n++;
    }
    if (n < 2 || (*tail = bif_ptb_short_not(p, i + n - 1)) == 0) {
        return 0;
    }
    size_t last = --n;
    while (last > 0 && at(p, i + last - 1) == 0xad) {
        last--;
    }
    return last > 0 && (at(p, i + last - 1) | 32) != 'n' ? n : 0;
}

size_t bif_ptb_apostrophe_word(const bif_ptb_view *p, size_t i)
{
    size_t best = 0, n = bif_ptb_apostrophe(p, i);
    const uint32_t c = at(p, i);
    if (n > 0) {
        const size_t and = bif_ptb_spelt(p, i + n, "n");
        best = and > 0 ? n + 1 + bif_ptb_apostrophe(p, i + n + 1) : 0;
        size_t more = BIF_PTB_ONE_OF(p, i + n, "em", "til", "till", "cause");
        if (more == 0 && at(p, i + n) >= '2' && at(p, i + n) <= '9' && at(p, i + n + 1) == '0' && bif_ptb_spelt(p, i + n + 2, "s") > 0) {
            more = 3;
        }
        return more > 0 && n + more > best ? n + more : best;
    }
    if (!bif_ptb_letter(c)) {
        return 0;
    }
    if (in("lLdDjJ", c) && (n = bif_ptb_apostrophe(p, i + 1)) > 0) {
        best = 1 + n;
    }
    if (((c >= 'A' && c <= 'H') || (c >= 'J' && c <= 'X') || c == 'Z' || c == 'n') && (n = bif_ptb_inner_apostrophe(p, i + 1)) > 0) {
        const size_t more = bif_ptb_run(p, i + 1 + n, bif_ptb_letter);
        best = more >= 2 && 1 + n + more > best ? 1 + n + more : best;
    }
    size_t letters = bif_ptb_run(p, i, bif_ptb_letter);
    if (letters >= 2 && in("aeiouyAEIOUY", at(p, i + letters - 1)) && (n = bif_ptb_inner_apostrophe(p, i + letters)) > 0 &&
        (in("aeiou", at(p, i + letters + n)) || is_upper(at(p, i + letters + n)))) {
        n += letters + 1;
        n += bif_ptb_run(p, i + n, bif_ptb_letter);
        best = n > best ? n : best;
    }
    static const char *const endings[] = {"Dunkin", "somethin", "ol", NULL};
    letters = bif_ptb_one_of(p, i, endings);
    if (letters > 0 && (n = bif_ptb_apostrophe(p, i + letters)) > 0) {
        best = letters + n > best ? letters + n : best;
    }
    n = bif_ptb_spelt(p, i, "o") > 0 ? bif_ptb_inner_apostrophe(p, i + 1) : 0;
    best = n > 0 && bif_ptb_spelt(p, i + 1 + n, "o") > 0 && n + 2 > best ? n + 2 : best;
    n = BIF_PTB_ONE_OF(p, i, "cont'd", "cont'd.", "nor'easter", "c'mon", "e'er", "s'mores", "ev'ry", "li'l", "nat'l");
    return n > best ? n : best;
}

size_t bif_ptb_slashed(const bif_ptb_view *p, size_t i)
{
    size_t n = 0, parts = 0;
    for (;;) {
        size_t part = bif_ptb_run(p, i + n, is_ascii_alnum);
        if (part == 0) {
            return 0;
        }
        for (size_t k = 0; k < 2 && at(p, i + n + part) == '-' && is_ascii_letter(at(p, i + n + part + 1)); k++) {
            part += 1 + bif_ptb_run(p, i + n + part + 1, is_ascii_letter);
        }
        n += part;
        parts++;
        const size_t slash = at(p, i + n) == '/' ? 1 : at(p, i + n) == '\\' && at(p, i + n + 1) == '/' ? 2 : 0;
        if (parts == 3 || slash == 0 || !is_ascii_alnum(at(p, i + n + slash))) {
            return parts > 1 ? n : 0;
        }
        n += slash;
    }
}

static const char *const compounds[] = {"Canada-U.S", "Sino-U.S", "Korean-U.S", "EU-U.S",       "Japan-U.S",
                                        "non-U.S",    "U.S.-U.K", "U.S.-U.S.S.R", NULL};

size_t bif_ptb_acronym(const bif_ptb_view *p, size_t i)
{
    size_t n = is_ascii_letter(at(p, i));
    while (n > 0 && at(p, i + n) == '.' && is_ascii_letter(at(p, i + n + 1))) {
        n += 2;
    }
    const size_t compound = bif_ptb_one_of(p, i, compounds);
    return compound > n ? compound : n;
}

/* What may stand behind a hyphen: letters and digits, or an acronym with its period. */
static size_t behind_hyphen(const bif_ptb_view *p, size_t i);
static size_t after_hyphen_from(const bif_ptb_view *p, size_t i, size_t n)
{
    if (n == 0) {
        return 0;
    }
    const size_t more = at(p, i + n) == '-' ? behind_hyphen(p, i + n + 1) : 0;
    return more > 0 ? n + 1 + more : n;
}

static bool is_alnum_or_soft(uint32_t c)
{
    return is_ascii_alnum(c) || c == 0xad;
}

static size_t behind_hyphen(const bif_ptb_view *p, size_t i)
{
    const size_t plain = bif_ptb_run(p, i, is_alnum_or_soft);
    size_t best = after_hyphen_from(p, i, plain), n;
    for (n = is_ascii_letter(at(p, i)) ? 1 : 0; n > 0 && at(p, i + n) == '.' && is_ascii_letter(at(p, i + n + 1));) {
        n += 2;
        const size_t whole = at(p, i + n) == '.' ? after_hyphen_from(p, i, n + 1) : 0;
        best = whole > best ? whole : best;
    }
    const size_t compound = bif_ptb_one_of(p, i, compounds);
    n = compound > 0 && at(p, i + compound) == '.' ? after_hyphen_from(p, i, compound + 1) : 0;
    return n > best ? n : best;
}

static bool is_hyphenated(uint32_t c)
{
    return is_ascii_alnum(c) || c == '.' || c == ',' || c == 0xad;
}

size_t bif_ptb_hyphenated(const bif_ptb_view *p, size_t i)
{
    if (!is_ascii_alnum(at(p, i))) {
        return 0;
    }
    const size_t n = bif_ptb_run(p, i, is_hyphenated), more = at(p, i + n) == '-' ? behind_hyphen(p, i + n + 1) : 0;
    return more > 0 ? n + 1 + more : 0;
}

static size_t thing_part(const bif_ptb_view *p, size_t i)
{
    const size_t quote = in("dDoOlL", at(p, i)) ? bif_ptb_inner_apostrophe(p, i + 1) : 0;
    if (quote > 0) {
        const size_t n = bif_ptb_run(p, i + 1 + quote, is_alnum);
        if (n >= 2) {
            return 1 + quote + n;
        }
    }
    return bif_ptb_run(p, i, is_alnum);
}

size_t bif_ptb_thing(const bif_ptb_view *p, size_t i)
{
    size_t n = thing_part(p, i);
    for (size_t more; n > 0;) {
        const uint32_t c = at(p, i + n);
        if ((c != '-' && c != '_' && c != 0x58a && c != 0x2010 && c != 0x2011) || (more = thing_part(p, i + n + 1)) == 0) {
            break;
        }
        n += 1 + more;
    }
    return n;
}

size_t bif_ptb_file_name(const bif_ptb_view *p, size_t i)
{
    size_t n = bif_ptb_run(p, i, is_alnum), best = 0;
    for (size_t part; n > 0 && at(p, i + n) == '.' && (part = bif_ptb_run(p, i + n + 1, is_alnum)) > 0;) {
        const size_t extension = bif_ptb_one_of(p, i + n + 1, bif_ptb_extensions);
        n += 1 + part;
        best = extension == part && (is_blank(at(p, i + n)) || in(".?!,", at(p, i + n))) ? n : best;
    }
    return best;
}

size_t bif_ptb_capitals(const bif_ptb_view *p, size_t i)
{
    size_t n = bif_ptb_run(p, i, is_upper), parts = n > 0;
    while (n > 0) {
        const size_t and = at(p, i + n) == '+' ? 1 : bif_ptb_spelt(p, i + n, "&amp;") > 0 ? 5 : at(p, i + n) == '&';
        const size_t more = and > 0 ? bif_ptb_run(p, i + n + and, is_upper) : 0;
        if (more == 0) {
            break;
        }
        n += and + more;
        parts++;
    }
    return parts > 1 ? n : 0;
}
