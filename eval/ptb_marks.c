#include "eval/ptb_parts.h"

size_t bif_ptb_number(const bif_ptb_view *p, size_t i)
{
    size_t n = bif_ptb_run(p, i, bif_ptb_digit);
    for (size_t more;;) {
        const uint32_t c = at(p, i + n);
        const bool mark = c == '.' || c == ',' || c == 0x66b || c == 0x66c || c == ':' || c == 0xad;
        if (!mark || (more = bif_ptb_run(p, i + n + 1, bif_ptb_digit)) == 0) {
            return n;
        }
        n += 1 + more;
    }
}

static bool is_raised(uint32_t c)
{
    return c == 0x2070 || c == 0xb9 || c == 0xb2 || c == 0xb3 || (c >= 0x2074 && c <= 0x2079);
}

static bool is_lowered(uint32_t c)
{
    return c >= 0x2080 && c <= 0x2089;
}

size_t bif_ptb_small_number(const bif_ptb_view *p, size_t i)
{
    const uint32_t c = at(p, i);
    const size_t sign = c == 0x207a || c == 0x207b || c == 0x208a || c == 0x208b;
    size_t n = bif_ptb_run(p, i + sign, is_raised);
    n = n > 0 ? n : bif_ptb_run(p, i + sign, is_lowered);
    return n > 0 ? sign + n : 0;
}

/* Pieces of a pattern: d digits of any script, 9 those of ASCII, or one of the characters of a set; least to most of them. */
typedef struct {
    const char *set;
    size_t least, most;
} piece;

static bool fits(const char *set, uint32_t c)
{
    return *set == 'd' ? bif_ptb_digit(c) : *set == '9' ? is_ascii_digit(c) : in(set, c) || (c == 0xa0 && strchr(set, ' ') != NULL);
}

static size_t longest(const bif_ptb_view *p, size_t i, const piece *pieces)
{
    if (pieces->set == NULL) {
        return i;
    }
    size_t n = 0, best = 0;
    while (n < pieces->most && fits(pieces->set, at(p, i + n))) {
        n++;
    }
    for (size_t k = n + 1; k-- > pieces->least;) {
        const size_t end = longest(p, i + k, pieces + 1);
        best = end > best ? end : best;
    }
    return best;
}

static size_t pattern(const bif_ptb_view *p, size_t i, const piece *pieces)
{
    const size_t end = longest(p, i, pieces);
    return end > i ? end - i : 0;
}

size_t bif_ptb_date(const bif_ptb_view *p, size_t i)
{
    static const piece pieces[] = {{"d", 1, 2}, {"-/", 1, 1}, {"d", 1, 2}, {"-/", 1, 1}, {"d", 2, 4}, {0}};
    return pattern(p, i, pieces);
}

size_t bif_ptb_fraction(const bif_ptb_view *p, size_t i)
{
    size_t best = 0;
    for (size_t whole = 0; whole < 5; whole++) { /* 3 1/2: a number of up to four digits, then - or a blank */
        size_t n = 0;
        if (whole > 0) {
            if (!bif_ptb_digit(at(p, i + whole - 1))) {
                break;
            }
            if (!fits("- ", at(p, i + whole))) {
                continue;
            }
            n = whole + 1;
        }
        const size_t over = bif_ptb_run(p, i + n, bif_ptb_digit);
        if (over == 0 || over > 4) {
            continue;
        }
        n += over;
        n += at(p, i + n) == '\\' && at(p, i + n + 1) == '/';
        if (at(p, i + n) != '/' && (at(p, i + n) != 0x2044 || at(p, i + n - 1) == '\\')) {
            continue;
        }
        const size_t under = bif_ptb_run(p, i + n + 1, bif_ptb_digit);
        n += 1 + (under < 4 ? under : 4);
        best = under > 0 && n > best ? n : best;
    }
    return best;
}

size_t bif_ptb_phone(const bif_ptb_view *p, size_t i)
{
    static const piece area[] = {{"(", 1, 1}, {"9", 2, 3}, {")", 1, 1}, {" ", 0, 1}, {"9", 3, 4}, {"- ", 0, 1}, {"9", 3, 5}, {0}};
    static const piece two[] = {{"+", 0, 2}, {"9", 2, 4}, {"- ", 1, 1}, {"9", 3, 4}, {"- ", 0, 1}, {"9", 3, 5}, {0}};
    static const piece three[] = {{"+", 0, 2},  {"9", 2, 4},  {"- ", 1, 1}, {"9", 2, 4}, {"- ", 1, 1},
                                  {"9", 3, 4}, {"- ", 0, 1}, {"9", 3, 5},  {0}};
    static const piece dots[] = {{"9", 2, 4}, {".", 1, 1}, {"9", 3, 4}, {".", 1, 1}, {"9", 3, 5}, {0}};
    static const piece more_dots[] = {{"+", 0, 2}, {"9", 2, 4}, {".", 1, 1}, {"9", 2, 4}, {".", 1, 1},
                                      {"9", 3, 4}, {".", 1, 1}, {"9", 3, 5}, {0}};
    static const piece *const forms[] = {area, two, three, dots, more_dots};
    size_t best = 0;
    if (!in("(+0123456789", at(p, i))) {
        return 0;
    }
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++) {
        const size_t n = pattern(p, i, forms[k]);
        best = n > best ? n : best;
    }
    return best;
}

#define URL_BLANK " \t\n\f\r\"<>|"
static bool is_url_inner(uint32_t c)
{
    return c < BIF_PTB_END && !in(URL_BLANK "()", c);
}

static bool is_url_last(uint32_t c)
{
    return c < BIF_PTB_END && !in(URL_BLANK ".!?(){},-", c);
}

static bool is_full_url_inner(uint32_t c)
{
    return is_url_inner(c) && c != '{' && c != '}';
}

/* At least two characters, the last no punctuation. */
static size_t url_tail(const bif_ptb_view *p, size_t i, bool (*inner)(uint32_t))
{
    size_t n = bif_ptb_run(p, i, inner);
    while (n > 0 && !is_url_last(at(p, i + n - 1))) {
        n--;
    }
    return n > 1 ? n : 0;
}

static bool is_www_label(uint32_t c)
{
    return c < BIF_PTB_END && !in(URL_BLANK ".!?(){},", c);
}

static bool is_domain_label(uint32_t c)
{
    return c < BIF_PTB_END && !in(URL_BLANK "`'!?(){}$", c) && (c < ',' || c > '_');
}

size_t bif_ptb_url(const bif_ptb_view *p, size_t i)
{
    size_t best = 0, n = BIF_PTB_ONE_OF(p, i, "http://", "https://");
    if (n > 0) {
        const size_t more = url_tail(p, i + n, is_full_url_inner);
        best = more > 0 ? n + more : 0;
    }
    const size_t www = bif_ptb_spelt(p, i, "www.");
    for (size_t k = 0; k < 2; k++) {
        bool (*const is)(uint32_t) = k == 0 ? is_www_label : is_domain_label;
        n = k == 0 ? www : 0;
        if (k == 0 && www == 0) {
            continue;
        }
        for (size_t label; (label = bif_ptb_run(p, i + n, is)) > 0 && at(p, i + n + label) == '.';) {
            n += label + 1;
            const size_t letters = bif_ptb_run(p, i + n, is_ascii_letter);
            size_t end = k == 0 ? (letters < 2 ? 0 : letters < 4 ? letters : 4) : BIF_PTB_ONE_OF(p, i + n, "com", "net", "org", "edu");
            if (end > 0) {
                const size_t tail = at(p, i + n + end) == '/' ? url_tail(p, i + n + end + 1, is_url_inner) : 0;
                end += tail > 0 ? 1 + tail : 0;
                best = n + end > best ? n + end : best;
            }
        }
    }
    return best;
}

static bool is_mail_part(uint32_t c)
{
    return c < BIF_PTB_END && !in(URL_BLANK "(){}", c) && c != 0xa0;
}

static bool is_mail_label(uint32_t c)
{
    return is_mail_part(c) && c != '.';
}

size_t bif_ptb_mail(const bif_ptb_view *p, size_t i)
{
    const size_t open = at(p, i) == '<' ? 1 : bif_ptb_spelt(p, i, "&lt;");
    size_t best = 0;
    if (!is_ascii_alnum(at(p, i + open))) {
        return 0;
    }
    const size_t all = bif_ptb_run(p, i + open, is_mail_part);
    for (size_t k = 1; k + 1 < all; k++) {
        if (at(p, i + open + k) != '@') {
            continue;
        }
        size_t n = open + k + 1, label = bif_ptb_run(p, i + n, is_mail_label);
        if (label == 0) {
            continue;
        }
        n += label;
        while (at(p, i + n) == '.' && (label = bif_ptb_run(p, i + n + 1, is_mail_label)) > 0) {
            n += 1 + label;
        }
        n += at(p, i + n) == '>' ? 1 : bif_ptb_spelt(p, i + n, "&gt;");
        best = n > best ? n : best;
    }
    return best;
}

static bool is_handle(uint32_t c)
{
    return is_ascii_alnum(c) || c == '_';
}

size_t bif_ptb_handle(const bif_ptb_view *p, size_t i)
{
    if (at(p, i) == '@' && (is_ascii_letter(at(p, i + 1)) || at(p, i + 1) == '_')) {
        return 1 + bif_ptb_run(p, i + 1, is_handle);
    }
    size_t n = at(p, i) == '#';
    for (size_t more; n > 0 && (more = bif_ptb_one_letter(p, i + n)) > 0; n += more) {
    }
    return n > 1 ? n : 0;
}

static bool is_tag_name(uint32_t c)
{
    return is_ascii_alnum(c) || in("_:.-", c);
}

static size_t tag_name(const bif_ptb_view *p, size_t i)
{
    return is_ascii_letter(at(p, i)) ? bif_ptb_run(p, i, is_tag_name) : 0;
}

size_t bif_ptb_tag(const bif_ptb_view *p, size_t i)
{
    if (at(p, i) != '<') {
        return 0;
    }
    size_t n = 1;
    if (in("!?", at(p, i + 1)) && (is_ascii_letter(at(p, i + 2)) || at(p, i + 2) == '-')) {
        for (n = 3; at(p, i + n) != '>'; n++) {
            if (at(p, i + n) == BIF_PTB_END || in("\r\n", at(p, i + n))) {
                return 0;
            }
        }
        return n + 1;
    }
    const bool end = at(p, i + 1) == '/';
    n = 1 + end;
    size_t name = tag_name(p, i + n);
    if (name == 0) {
        return 0;
    }
    n += name;
    for (size_t blanks; !end && (blanks = bif_ptb_run_of(p, i + n, ' ')) > 0 && (name = tag_name(p, i + n + blanks)) > 0;) {
        n += blanks + name;
        size_t value = n + bif_ptb_run_of(p, i + n, ' ');
        if (at(p, i + value) != '=') {
            continue;
        }
        value++;
        value += bif_ptb_run_of(p, i + value, ' ');
        const uint32_t quote = at(p, i + value);
        if (quote == '"' || quote == '\'') {
            do {
                value++;
            } while (at(p, i + value) != quote && at(p, i + value) != BIF_PTB_END);
            n = value + 1;
        } else {
            n = value + tag_name(p, i + value);
        }
    }
    n += bif_ptb_run_of(p, i + n, ' ');
    n += !end && at(p, i + n) == '/';
    n += bif_ptb_run_of(p, i + n, ' ');
    return at(p, i + n) == '>' ? n + 1 : 0;
}

size_t bif_ptb_smiley(const bif_ptb_view *p, size_t i)
{
    size_t n = in("<>", at(p, i));
    if (!in(":;=", at(p, i + n))) {
        return 0;
    }
    n++;
    const bool nose = in("-o*'", at(p, i + n)) && in("()DPdpO\\{@|[]", at(p, i + n + 1));
    if (nose && !is_ascii_alnum(at(p, i + n + 2)) && at(p, i + n + 2) != BIF_PTB_END) {
        return n + 2;
    }
    return in("()DPdpO\\{@|[]", at(p, i + n)) && !is_ascii_alnum(at(p, i + n + 1)) && at(p, i + n + 1) != BIF_PTB_END ? n + 1 : 0;
}

size_t bif_ptb_asian_smiley(const bif_ptb_view *p, size_t i)
{
    const uint32_t a = at(p, i), b = at(p, i + 1), c = at(p, i + 2);
    if (in("-^x=~<>'", a) && b == '_' && in("-^x=~<>'", c)) {
        return 3;
    }
    if (a != '(' || !in("-^x=~<>'", b)) {
        return 0;
    }
    if (in("-^x=~<>'", c) && at(p, i + 3) == ')') {
        return 4;
    }
    const uint32_t d = at(p, i + 3);
    if (at(p, i + 4) != ')') {
        return 0;
    }
    return (in("_.", c) && in("-^x=~<>'", d)) || (b != '-' && c == '-' && in("^x=~<>'`", d)) ? 5 : 0;
}

size_t bif_ptb_ellipsis(const bif_ptb_view *p, size_t i)
{
    if (at(p, i) == 0x2026) {
        return 1;
    }
    size_t n = bif_ptb_run_of(p, i, '.'), spaced = 1;
    if (n >= 3) {
        return n < 5 ? n : 5;
    }
    while (n > 0 && spaced < 5 && fits(" ", at(p, i + 2 * spaced - 1)) && at(p, i + 2 * spaced) == '.') {
        spaced++;
    }
    return n > 0 && spaced >= 3 ? 2 * spaced - 1 : 0;
}

static bool is_mark_of_quotes(uint32_t c)
{
    return c == '`' || (c >= 0x2018 && c <= 0x201f) || (c >= 0x91 && c <= 0x94) || c == 0x2039 || c == 0x203a || c == 0xab || c == 0xbb;
}

size_t bif_ptb_quotes(const bif_ptb_view *p, size_t i)
{
    size_t n = at(p, i) == '\'' && at(p, i + 1) == '\'' ? 2 : 0;
    if (is_mark_of_quotes(at(p, i))) {
        n = is_mark_of_quotes(at(p, i + 1)) ? 2 : 1;
    }
    const size_t one = bif_ptb_apostrophe(p, i);
    return one > n ? one : n;
}
