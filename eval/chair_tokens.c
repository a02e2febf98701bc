/* The words of a caption as NLTK 3.2.5 cuts them (sentences by Punkt, words by its Treebank rules), as far as words go. One rule after
 * the other, each over what the one before left, as there: what a rule has taken it does not look at again. */
#include <string.h>

#include "base/utf8.h"
#include "eval/chair_words.h"

static bool in(const char *set, char c)
{
    return c != '\0' && strchr(set, c) != NULL;
}

static bool starts(bif_span text, size_t i, const char *with)
{
    const size_t n = strlen(with);
    return text.size - i >= n && memcmp(text.text + i, with, n) == 0;
}

static char at(bif_span text, size_t i)
{
    return i < text.size ? text.text[i] : '\0';
}

/* Length of the white space character there. */
static size_t blank_at(bif_span text, size_t i)
{
    uint32_t code = 0;
    const size_t n = i < text.size ? bif_utf8_decode(text.text + i, text.size - i, &code) : 0;
    return n > 0 && bif_text_is_space(code) ? n : 0;
}

static void add(bif_text_buffer *out, bif_span text, size_t from, size_t count)
{
    bif_text_add(out, text.text + from, count);
}

static void add_parted(bif_text_buffer *out, bif_span text, size_t from, size_t count)
{
    bif_text_add(out, " ", 1);
    add(out, text, from, count);
    bif_text_add(out, " ", 1);
}

/* Blanks around each of some strings. */
static void part(bif_span text, const char *const *strings, bif_text_buffer *out)
{
    for (size_t i = 0; i < text.size;) {
        size_t n = 0;
        for (size_t k = 0; strings[k] != NULL && n == 0; k++) {
            n = starts(text, i, strings[k]) ? strlen(strings[k]) : 0;
        }
        if (n > 0) {
            add_parted(out, text, i, n);
            i += n;
        } else {
            add(out, text, i++, 1);
        }
    }
}

static size_t closer_at(bif_span text, size_t i)
{
    const bool curly = starts(text, i, "\xe2\x80\x9d") || starts(text, i, "\xe2\x80\x99");
    return in("])}>\"' ", at(text, i)) ? 1 : starts(text, i, "\xc2\xbb") ? 2 : curly ? 3 : 0;
}

/* The period that ends a sentence. */
static void part_period(bif_span text, bif_text_buffer *out)
{
    size_t last = text.size; /* of the periods behind which only closing marks stand */
    for (size_t i = 0; i < text.size && last == text.size; i++) {
        size_t end = i + 1;
        for (size_t n; text.text[i] == '.' && (n = closer_at(text, end)) > 0; end += n) {
        }
        const bool closes = text.text[i] == '.' && bif_text_strip((bif_span){text.text + end, text.size - end}).size == 0;
        last = closes && i > 0 && text.text[i - 1] != '.' ? i : last;
    }
    add(out, text, 0, last);
    if (last < text.size) {
        add_parted(out, text, last, 1);
        add(out, text, last + 1, text.size - last - 1);
    }
}

static void part_commas(bif_span text, bif_text_buffer *out)
{
    uint32_t code = 0;
    for (size_t i = 0; i < text.size;) {
        const size_t next = i + 1 < text.size ? bif_utf8_decode(text.text + i + 1, text.size - i - 1, &code) : 0;
        if (!in(":,", text.text[i]) || (next > 0 && bif_text_is_digit(code))) {
            add(out, text, i++, 1);
            continue;
        }
        add_parted(out, text, i, 1);
        add(out, text, i + 1, next);
        i += 1 + next;
    }
}

/* An apostrophe before a blank: its own word. */
static void part_apostrophes(bif_span text, bif_text_buffer *out)
{
    for (size_t i = 0; i < text.size;) {
        add(out, text, i, 1);
        if (text.text[i] != '\'' && at(text, i + 1) == '\'' && at(text, i + 2) == ' ') {
            bif_text_add(out, " ' ", 3);
            i += 2;
        }
        i++;
    }
}

static void part_double_apostrophes(bif_span text, bif_text_buffer *out)
{
    for (size_t i = 0; i < text.size;) {
        add(out, text, i, 1);
        if (blank_at(text, i) == 0 && starts(text, i + 1, "''")) {
            add_parted(out, text, i + 1, 2);
            i += 2;
        }
        i++;
    }
}

/* Endings before a blank: 's, n't. */
static void part_endings(bif_span text, const char *const *endings, bif_text_buffer *out)
{
    for (size_t i = 0; i < text.size;) {
        size_t n = 0;
        add(out, text, i, 1);
        for (size_t k = 0; endings[k] != NULL && n == 0 && !in("' ", text.text[i]); k++) {
            n = starts(text, i + 1, endings[k]) && at(text, i + 1 + strlen(endings[k])) == ' ' ? strlen(endings[k]) : 0;
        }
        if (n > 0) {
            add_parted(out, text, i + 1, n);
            i += n + 1;
        }
        i++;
    }
}

static void tokenize_sentence(bif_span sentence, bif_text_buffer *a, bif_text_buffer *b, bif_text_buffer *out)
{
    static const char *const opening[] = {"\xc2\xab", "\xe2\x80\x9c", "\xe2\x80\x98", "``", "\"", NULL};
    static const char *const closing[] = {"\xc2\xbb", "\xe2\x80\x9d", "\xe2\x80\x99", NULL};
    static const char *const dots[] = {"...", NULL}, *const marks[] = {";", "@", "#", "$", "%", "&", "?", "!", NULL};
    static const char *const brackets[] = {"[", "]", "(", ")", "{", "}", "<", ">", NULL}, *const dashes[] = {"--", NULL};
    static const char *const short_ones[] = {"'s", "'m", "'d", "'", NULL}, *const long_ones[] = {"'ll", "'re", "'ve", "n't", NULL};
    enum { STEPS = 13 };
    bif_text_clear(a);
    bif_text_add(a, sentence.text, sentence.size);
    for (int step = 0; step < STEPS; step++) {
        const bif_span text = bif_text_span(a);
        bif_text_clear(b);
        switch (step) {
        case 0: part(text, opening, b); break;
        case 1: part_period(text, b); break;
        case 2: part_commas(text, b); break;
        case 3: part(text, dots, b); break;
        case 4: part(text, marks, b); break;
        case 5: part_apostrophes(text, b); break;
        case 6: part(text, brackets, b); break;
        case 7: part(text, dashes, b); break;
        case 8: add_parted(b, text, 0, text.size); break;
        case 9: part(text, closing, b); break;
        case 10: part_double_apostrophes(text, b); break;
        case 11: part_endings(text, short_ones, b); break;
        default: part_endings(text, long_ones, b); break;
        }
        const bif_text_buffer done = *b;
        *b = *a;
        *a = done;
    }
    bif_span rest = bif_text_span(a);
    for (bif_span word; bif_text_word(&rest, &word);) {
        if (out->size > 0) {
            bif_text_add(out, " ", 1);
        }
        bif_text_add(out, word.text, word.size);
    }
}

/* Of a text between blanks, [from, to): behind the last . ? ! that another mark follows, or the blank; `from` if there is none. */
static size_t break_in(bif_span text, size_t from, size_t to)
{
    for (size_t i = to; i > from; i--) {
        const char c = text.text[i - 1];
        const bool ends = in("?!", c) || (c == '.' && (i - 1 == from || text.text[i - 2] != '.'));
        if (in(".?!", c) && (i < to ? in("?!)\";}]*:@'({[", text.text[i]) : to < text.size)) {
            return ends ? i : from;
        }
    }
    return from;
}

/* Closing marks before a blank or the end belong to the sentence they close. */
static size_t closing_marks(bif_span text, size_t i)
{
    size_t end = i;
    while (in("\"')]}", at(text, end))) {
        end++;
        if (end == text.size || blank_at(text, end) > 0 || starts(text, end, "--")) {
            return end;
        }
    }
    return i;
}

void bif_chair_tokenize(bif_span lower, bif_text_buffer *out)
{
    bif_text_buffer a = {0}, b = {0};
    size_t start = 0;
    const size_t lead = (size_t)(bif_text_strip(lower).text - lower.text);
    const bif_span text = {lower.text, lead + bif_text_strip(lower).size};
    for (size_t from = lead, to; from < text.size; from = to) {
        for (to = from; to < text.size && blank_at(text, to) == 0; to++) {
        }
        size_t end = break_in(text, from, to);
        if (end > from) {
            end = closing_marks(text, end);
            tokenize_sentence((bif_span){text.text + start, end - start}, &a, &b, out);
            start = end;
        }
        for (size_t n; (n = blank_at(text, to)) > 0; to += n) {
        }
    }
    tokenize_sentence((bif_span){text.text + start, text.size - start}, &a, &b, out);
    bif_text_free(&a);
    bif_text_free(&b);
}
