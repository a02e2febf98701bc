#include "eval/ptb.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "eval/ptb_parts.h"

/* How a token is written. */
typedef enum {
    AS_IS,
    NOTHING,     /* no token */
    NO_SOFT,     /* without soft hyphens; "-" if nothing is left */
    LEFT_QUOTE,  /* quotation marks as ` and `` */
    RIGHT_QUOTE, /* ... as ' and '' */
    NO_BREAK,    /* blanks become no-break spaces */
    PARENTHESES, /* ... and parentheses -LRB- and -RRB- */
    GIVEN,       /* another text */
} writing;

/* The longest match so far, what it had to see behind it included; of equals the first. */
typedef struct {
    size_t length, seen;
    writing as;
    const char *given;
} match;

struct bif_ptb {
    uint16_t *text; /* UTF-16: the caption, and what follows it */
    size_t size, capacity;
    bif_text_buffer token, lower;
};

bif_ptb *bif_ptb_new(void)
{
    return bif_calloc(1, sizeof(bif_ptb));
}

void bif_ptb_free(bif_ptb *ptb)
{
    if (ptb != NULL) {
        bif_text_free(&ptb->token);
        bif_text_free(&ptb->lower);
        free(ptb->text);
        free(ptb);
    }
}

/* ---- the rules, in the order that decides between matches of one length ---- */

static void offer_as(match *m, size_t length, size_t context, writing as, const char *given)
{
    if (length > 0 && length + context > m->seen) {
        *m = (match){.length = length, .seen = length + context, .as = as, .given = given};
    }
}

static void offer(match *m, size_t length, size_t context, writing as)
{
    offer_as(m, length, context, as, NULL);
}

/* Behind an abbreviation at i: how much a sentence's end there shows of itself. */
static size_t sentence_end(const bif_ptb_view *p, size_t i)
{
    if (!is_blank(at(p, i))) {
        return 0;
    }
    if (is_blank(at(p, i + 1)) || is_upper(at(p, i + 1))) {
        return 2;
    }
    const size_t n = bif_ptb_tag(p, i + 1);
    return n > 0 ? 1 + n : 0;
}

static void offer_words(const bif_ptb_view *p, size_t i, match *m)
{
    static const char *const three[] = {"cannot", "'twas", NULL}, *const two[] = {"gonna", "gotta", "lemme", "gimme", "wanna", NULL};
    size_t n = bif_ptb_one_of(p, i, three), tail = 0;
    offer(m, n > 3 ? n - 3 : 0, 3, AS_IS);
    n = bif_ptb_one_of(p, i, two);
    offer(m, n > 2 ? n - 2 : 0, 2, AS_IS);
    n = bif_ptb_apostrophe(p, i);
    offer(m, n > 0 && bif_ptb_spelt(p, i + n, "tis") > 0 ? n + 1 : 0, 2, AS_IS);
    offer(m, bif_ptb_tag(p, i), 0, NO_BREAK);
    const uint32_t c = at(p, i);
    n = BIF_PTB_ONE_OF(p, i, "&MD;", "&mdash;", "&ndash;");
    offer_as(m, n > 0 ? n : c == 0x96 || c == 0x97 || (c >= 0x2013 && c <= 0x2015), 0, GIVEN, "--");
    offer_as(m, bif_ptb_spelt(p, i, "&amp;"), 0, GIVEN, "&");
    n = BIF_PTB_ONE_OF(p, i, "&HT;", "&TL;", "&UR;", "&LR;", "&QC;", "&QL;", "&QR;", "&odq;", "&cdq;");
    if (n == 0 && c == '&' && at(p, i + 1) == '#') {
        n = bif_ptb_run(p, i + 2, is_ascii_digit);
        n = n > 0 && at(p, i + 2 + n) == ';' ? n + 3 : 0;
    }
    offer(m, n, 0, AS_IS);
    n = bif_ptb_word(p, i);
    tail = n > 0 ? bif_ptb_short_verb(p, i + n) : 0;
    offer(m, tail > 0 ? n : 0, tail, NO_SOFT);
    const size_t before = bif_ptb_before_not(p, i, &tail);
    offer(m, before, tail, NO_SOFT);
    offer(m, n, 0, NO_SOFT);
    offer(m, bif_ptb_apostrophe_word(p, i), 0, AS_IS);
    n = bif_ptb_spelt(p, i, "y") > 0 ? bif_ptb_apostrophe(p, i + 1) : 0;
    offer(m, n > 0 && bif_ptb_letter(at(p, i + 1 + n)) ? 1 + n : 0, 1, AS_IS);
    offer(m, bif_ptb_url(p, i), 0, AS_IS);
    offer(m, bif_ptb_mail(p, i), 0, AS_IS);
    offer(m, bif_ptb_handle(p, i), 0, AS_IS);
    n = bif_ptb_short_verb(p, i);
    offer(m, at(p, i + n) != BIF_PTB_END && !is_ascii_letter(at(p, i + n)) ? n : 0, 1, RIGHT_QUOTE);
    n = bif_ptb_short_not(p, i);
    offer(m, at(p, i + n) != BIF_PTB_END && !is_ascii_letter(at(p, i + n)) ? n : 0, 1, RIGHT_QUOTE);
}

static void offer_numbers(const bif_ptb_view *p, size_t i, match *m)
{
    const uint32_t c = at(p, i);
    offer(m, bif_ptb_date(p, i), 0, AS_IS);
    const size_t sign = c == '+' || c == '-';
    size_t n = bif_ptb_number(p, i + sign);
    offer(m, n > 0 ? sign + n : 0, 0, NO_SOFT);
    offer(m, bif_ptb_small_number(p, i), 0, AS_IS);
    offer(m, bif_ptb_fraction(p, i), 0, NO_BREAK);
    offer_as(m, c >= 0xbc && c <= 0xbe ? 1 : 0, 0, GIVEN, c == 0xbc ? "1/4" : c == 0xbd ? "1/2" : "3/4");
    offer_as(m, c == 0x2153 || c == 0x2154 ? 1 : 0, 0, GIVEN, c == 0x2153 ? "1/3" : "2/3");
    n = BIF_PTB_ONE_OF(p, i, "-RRB-", "-LRB-", "-RCB-", "-LCB-", "-RSB-", "-LSB-", "C.D.s", "pro-", "anti-", "S&P-500", "S&Ls");
    offer(m, n, 0, AS_IS);
    offer_as(m, bif_ptb_spelt(p, i, "S&amp;P-500"), 0, GIVEN, "s&p-500");
    offer_as(m, bif_ptb_spelt(p, i, "S&amp;Ls"), 0, GIVEN, "s&ls");
    n = bif_ptb_spelt(p, i, "Cap");
    size_t quote = n > 0 ? bif_ptb_apostrophe(p, i + n) : 0;
    offer(m, quote > 0 && bif_ptb_spelt(p, i + n + quote, "n") > 0 ? n + quote + 1 : 0, 0, AS_IS);
    quote = bif_ptb_spelt(p, i, "c") > 0 ? bif_ptb_apostrophe(p, i + 1) : 0;
    offer(m, quote > 0 && bif_ptb_spelt(p, i + 1 + quote, "est") > 0 ? quote + 4 : 0, 0, AS_IS);
    offer(m, bif_ptb_slashed(p, i), 0, AS_IS);
    n = bif_ptb_run(p, i, is_upper);
    offer(m, at(p, i + n) == '$' ? n + 1 : c == '#', 0, AS_IS);
    offer_as(m, c == 0xa2 ? 1 : 0, 0, GIVEN, "cents");
    offer_as(m, c == 0xa3 ? 1 : 0, 0, GIVEN, "#");
    offer_as(m, c == 0x80 || c == 0xa4 || c == 0x20a0 || c == 0x20ac ? 1 : 0, 0, GIVEN, "$");
}

static void offer_abbreviations(const bif_ptb_view *p, size_t i, match *m)
{
    size_t n = bif_ptb_acronym(p, i);
    if (n > 0 && at(p, i + n) == '.') {
        const size_t blanks = bif_ptb_run(p, i + n + 1, is_blank);
        size_t opener = 0;
        for (size_t k = 0; blanks > 0 && bif_ptb_openers[k] != NULL; k++) {
            size_t length = 0;
            while (bif_ptb_openers[k][length] != '\0' && at(p, i + n + 1 + blanks + length) == (unsigned char)bif_ptb_openers[k][length]) {
                length++;
            }
            const uint32_t behind = at(p, i + n + 1 + blanks + length);
            opener = bif_ptb_openers[k][length] == '\0' && is_blank(behind) && length > opener ? length : opener;
        }
        const size_t markup = blanks > 0 ? bif_ptb_tag(p, i + n + 1 + blanks) : 0;
        opener = is_blank(at(p, i + n + 1 + blanks + markup)) && markup > opener ? markup : opener;
        offer(m, opener > 0 ? n + (n > 1) : 0, (n == 1) + blanks + opener + 1, AS_IS);
    }
    n = bif_ptb_one_of(p, i, bif_ptb_number_abbreviations);
    if (n > 0 && at(p, i + n) == '.') {
        const size_t blank = is_blank(at(p, i + n + 1));
        offer(m, bif_ptb_digit(at(p, i + n + 1 + blank)) ? n + 1 : 0, blank + 1, AS_IS);
    }
    n = bif_ptb_one_of(p, i, bif_ptb_abbreviations);
    if (n > 0 && at(p, i + n) == '.') {
        n++;
        const size_t end = sentence_end(p, i + n);
        offer(m, end > 0 ? n : 0, end, AS_IS);
        offer(m, at(p, i + n + 1) != BIF_PTB_END ? n : 0, 2, AS_IS);
        offer(m, n, 0, AS_IS);
    }
    n = bif_ptb_one_of(p, i, bif_ptb_titles);
    const size_t letters = bif_ptb_acronym(p, i);
    offer(m, n > 0 && at(p, i + n) == '.' ? n + 1 : 0, 0, AS_IS);
    offer(m, letters > 0 && at(p, i + letters) == '.' ? letters + 1 : 0, 0, AS_IS);
    offer(m, n > 0 && bif_ptb_space(at(p, i + n)) ? n : 0, 1, AS_IS);
    offer(m, letters > 0 && is_blank(at(p, i + letters)) ? letters : 0, 1, AS_IS);
    n = bif_ptb_apostrophe(p, i);
    offer(m, n > 0 && is_ascii_digit(at(p, i + n)) && is_ascii_digit(at(p, i + n + 1)) && is_blank(at(p, i + n + 2)) ? n + 2 : 0, 1, AS_IS);
}

static bool parts_sentence(uint32_t c)
{
    return in(",;:", c) || c == 0x3001;
}

static void offer_period(const bif_ptb_view *p, size_t i, size_t n, writing as, match *m)
{
    offer(m, n > 0 && at(p, i + n) == '.' && parts_sentence(at(p, i + n + 1)) ? n + 1 : 0, 1, as);
}

static void offer_marks(const bif_ptb_view *p, size_t i, match *m)
{
    static const char *const brackets[] = {"{-LCB-", "}-RCB-", "[-LSB-", "]-RSB-", "(-LRB-", ")-RRB-"};
    const uint32_t c = at(p, i);
    offer(m, bif_ptb_file_name(p, i), 1, AS_IS);
    offer_period(p, i, bif_ptb_word(p, i), NO_SOFT, m);
    offer(m, bif_ptb_phone(p, i), 0, PARENTHESES);
    size_t n = c == '"' ? 1 : bif_ptb_spelt(p, i, "&quot;");
    offer(m, n > 0 && (is_ascii_alnum(at(p, i + n)) || at(p, i + n) == '$') ? n : 0, 1, LEFT_QUOTE);
    offer(m, n, 0, RIGHT_QUOTE);
    n = c == '<' ? 1 : bif_ptb_spelt(p, i, "&lt;");
    offer_as(m, n, 0, GIVEN, "<");
    n = c == '>' ? 1 : bif_ptb_spelt(p, i, "&gt;");
    offer_as(m, n, 0, GIVEN, ">");
    offer(m, bif_ptb_smiley(p, i), 1, PARENTHESES);
    offer(m, bif_ptb_asian_smiley(p, i), 0, PARENTHESES);
    for (size_t k = 0; k < sizeof brackets / sizeof *brackets; k++) {
        offer_as(m, c == (unsigned char)*brackets[k] ? 1 : 0, 0, GIVEN, brackets[k] + 1);
    }
    n = bif_ptb_run_of(p, i, '-');
    offer_as(m, n, 0, n == 3 || n == 4 ? GIVEN : AS_IS, "--");
    offer_as(m, bif_ptb_ellipsis(p, i), 0, GIVEN, "...");
    n = in("@#_*", c) ? bif_ptb_run_of(p, i, (char)c) : 0;
    for (size_t k = 0; k < 3 && c == '\\' && at(p, i + n) == '\\' && at(p, i + n + 1) == '*'; k++) {
        n += 2;
    }
    offer(m, n, 0, AS_IS);
    for (n = 0; in("?!", at(p, i + n)); n++) {
    }
    offer(m, n, 0, AS_IS);
    offer(m, parts_sentence(c) || in(".=/", c), 0, AS_IS);
}

static void offer_compounds(const bif_ptb_view *p, size_t i, match *m)
{
    const size_t n = bif_ptb_hyphenated(p, i), any = bif_ptb_thing(p, i), names = bif_ptb_capitals(p, i);
    offer_period(p, i, n, NO_SOFT, m);
    offer(m, n, 0, NO_SOFT);
    offer_period(p, i, any, AS_IS, m);
    offer(m, any, 0, AS_IS);
    offer_period(p, i, names, AS_IS, m);
    offer(m, names, 0, AS_IS);
    const uint32_t c = at(p, i), second = at(p, i + 2);
    const bool opens = c == '\'' && is_ascii_letter(at(p, i + 1)) && second != BIF_PTB_END && !in(" \t\n\r", second) && second != 0xa0;
    offer(m, opens, 2, LEFT_QUOTE);
    offer(m, bif_ptb_short_verb(p, i), 0, RIGHT_QUOTE);
    offer(m, bif_ptb_short_not(p, i), 0, RIGHT_QUOTE);
    offer(m, bif_ptb_quotes(p, i), 0, RIGHT_QUOTE);
    offer(m, (c == '<' || c == '>') && at(p, i + 1) == c ? 2 : 0, 0, AS_IS);
    offer(m, in("+%&~^|\\", c) || bif_ptb_symbol(c), 0, AS_IS);
    offer(m, bif_ptb_spelt(p, i, "&nbsp;"), 0, NOTHING);
    offer(m, BIF_PTB_ONE_OF(p, i, "c++", "c#", "f#"), 0, AS_IS);
    offer(m, 1, 0, NOTHING);
}

/* ---- tokens ---- */

static void add_unit(bif_text_buffer *out, uint32_t c)
{
    char bytes[4];
    bif_text_add(out, bytes, bif_utf8_encode(c, bytes));
}

static void add(bif_text_buffer *out, const char *text)
{
    bif_text_add(out, text, strlen(text));
}

/* One unit, or an entity, of a text with quotation marks; returns how long it is. */
static size_t add_quote(const bif_ptb_view *p, size_t i, bool left, bif_text_buffer *out)
{
    const uint32_t c = at(p, i);
    size_t n = c == '\'' ? 1 : bif_ptb_spelt(p, i, "&apos;");
    if (n > 0) {
        add(out, left ? "`" : "'");
        return n;
    }
    n = c == '"' ? 1 : bif_ptb_spelt(p, i, "&quot;");
    if (n > 0) {
        add(out, left ? "``" : "''");
        return n;
    }
    if (c == 0x91 || c == 0x2018 || c == 0x201b || c == 0x2039) {
        add(out, "`");
    } else if (c == 0x92 || c == 0x2019 || c == 0x203a) {
        add(out, "'");
    } else if (c == 0x93 || c == 0x201c || c == 0xab) {
        add(out, "``");
    } else if (c == 0x94 || c == 0x201d || c == 0xbb) {
        add(out, "''");
    } else {
        add_unit(out, c);
    }
    return 1;
}

static void write_token(bif_ptb *ptb, const bif_ptb_view *p, size_t i, const match *m, bif_text_buffer *out)
{
    /* And -LRB- -RRB- -LCB- -RCB-, which in lower case no token is. */
    static const char *const dropped[] = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"};
    bif_text_buffer *t = &ptb->token;
    bif_text_clear(t);
    if (m->as == NOTHING) {
        return;
    }
    if (m->as == GIVEN) {
        add(t, m->given);
    }
    for (size_t k = 0; m->as != GIVEN && k < m->length;) {
        const uint32_t c = at(p, i + k), low = at(p, i + k + 1);
        if (m->as == LEFT_QUOTE || m->as == RIGHT_QUOTE) {
            k += add_quote(p, i + k, m->as == LEFT_QUOTE, t);
            continue;
        }
        k++;
        if ((m->as == NO_BREAK || m->as == PARENTHESES) && c == ' ') {
            add(t, "\xc2\xa0");
        } else if (m->as == PARENTHESES && (c == '(' || c == ')')) {
            add(t, c == '(' ? "-LRB-" : "-RRB-");
        } else if (c >= 0xd800 && c < 0xdc00 && low >= 0xdc00 && low < 0xe000) {
            add_unit(t, 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00));
            k++;
        } else if (m->as != NO_SOFT || c != 0xad) {
            add_unit(t, c);
        }
    }
    if (t->size == 0) {
        add(t, "-");
    }
    bif_text_clear(&ptb->lower);
    bif_text_lower(bif_text_span(t), &ptb->lower);
    const bif_span token = bif_text_span(&ptb->lower);
    for (size_t k = 0; k < sizeof dropped / sizeof *dropped; k++) {
        if (bif_span_is(token, dropped[k])) {
            return;
        }
    }
    if (out->size > 0) {
        bif_text_add(out, " ", 1);
    }
    bif_text_add(out, token.text, token.size);
}

/* Appends a text as UTF-16 with its line breaks as blanks. */
static void take_text(bif_ptb *p, bif_span text)
{
    if (p->size + text.size + 2 > p->capacity) {
        p->capacity = 2 * (p->size + text.size) + 256;
        p->text = bif_realloc(p->text, p->capacity, sizeof *p->text);
    }
    uint32_t code = 0;
    for (size_t i = 0, n; i < text.size && (n = bif_utf8_decode(text.text + i, text.size - i, &code)) > 0; i += n) {
        if (code >= 0x10000) {
            p->text[p->size++] = (uint16_t)(0xd800 + ((code - 0x10000) >> 10));
            code = 0xdc00 + ((code - 0x10000) & 0x3ff);
        }
        p->text[p->size++] = (uint16_t)(bif_ptb_newline(code) ? ' ' : code);
    }
}

void bif_ptb_caption(bif_ptb *ptb, bif_span caption, bif_span next, bif_text_buffer *out)
{
    bif_text_buffer tokens = {0};
    ptb->size = 0;
    take_text(ptb, caption);
    const size_t size = ptb->size;
    if (next.text != NULL) {
        ptb->text[ptb->size++] = '\n';
        take_text(ptb, next);
        ptb->text[ptb->size++] = '\n';
    }
    const bif_ptb_view view = {ptb->text, ptb->size};
    for (size_t i = 0; i < size;) {
        match m = {0};
        if (bif_ptb_space(at(&view, i))) {
            i++;
            continue;
        }
        offer_words(&view, i, &m);
        offer_numbers(&view, i, &m);
        offer_abbreviations(&view, i, &m);
        offer_marks(&view, i, &m);
        offer_compounds(&view, i, &m);
        write_token(ptb, &view, i, &m, &tokens);
        i += m.length;
    }
    bif_text_add(out, tokens.text, tokens.size);
    bif_text_free(&tokens);
}
