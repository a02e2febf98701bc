#include "eval/vqa_norm.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define SLOTS 512

/* The words that contractions become. What they become them from has one apostrophe less, any one of them; official list, so "he'll" or "I'll" are
 * not in it, "somebody'd" stands the wrong way round, and those with a capital I can not be met after lower-casing. */
static const char contractions[] =
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's how'd how'll how's isn't "
    "it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've "
    "shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll "
    "that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's "
    "what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all "
    "y'all'll y'all'd've you'd you'd've you'll you're you've";
static const char *const digits[][2] = {{"none", "0"}, {"zero", "0"}, {"one", "1"}, {"two", "2"},   {"three", "3"}, {"four", "4"},
                                        {"five", "5"}, {"six", "6"},  {"seven", "7"}, {"eight", "8"}, {"nine", "9"},  {"ten", "10"}};
static const char marks[] = ";/[]\"{}()=+\\_-><@`,?!";

typedef struct {
    char from[16], to[16];
    size_t from_size, to_size;
} entry;

struct bif_vqa_norm {
    entry entries[SLOTS]; /* by hash of `from`; articles become nothing */
    bif_text_buffer cleaned, marked, bare, lowered, words, first;
};

static size_t hash_of(bif_span word)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < word.size; i++) {
        hash = (hash ^ (unsigned char)word.text[i]) * 16777619u;
    }
    return (hash ^ hash >> 15) % SLOTS;
}

static const entry *find(const bif_vqa_norm *norm, bif_span word)
{
    if (word.size >= sizeof norm->entries->from) {
        return NULL;
    }
    for (size_t at = hash_of(word); norm->entries[at].from_size > 0; at = (at + 1) % SLOTS) {
        const entry *e = &norm->entries[at];
        if (e->from_size == word.size && memcmp(e->from, word.text, word.size) == 0) {
            return e;
        }
    }
    return NULL;
}

static void put(bif_vqa_norm *norm, bif_span from, bif_span to)
{
    size_t at = hash_of(from);
    while (norm->entries[at].from_size > 0) {
        at = (at + 1) % SLOTS;
    }
    entry *e = &norm->entries[at];
    memcpy(e->from, from.text, e->from_size = from.size);
    if (to.size > 0) {
        memcpy(e->to, to.text, to.size);
    }
    e->to_size = to.size;
}

static bif_span span_of(const char *text)
{
    return (bif_span){text, strlen(text)};
}

bif_vqa_norm *bif_vqa_norm_new(void)
{
    static const char *const articles[] = {"a", "an", "the"};
    bif_vqa_norm *norm = bif_calloc(1, sizeof *norm);
    bif_span rest = span_of(contractions), word;
    while (bif_text_word(&rest, &word)) {
        for (size_t i = 0; i < word.size; i++) {
            char from[16];
            if (word.text[i] == '\'') {
                memcpy(from, word.text, i);
                memcpy(from + i, word.text + i + 1, word.size - i - 1);
                put(norm, (bif_span){from, word.size - 1}, word);
            }
        }
    }
    put(norm, span_of("somebody'd"), span_of("somebodyd"));
    for (size_t i = 0; i < sizeof digits / sizeof *digits; i++) {
        put(norm, span_of(digits[i][0]), span_of(digits[i][1]));
    }
    for (size_t i = 0; i < sizeof articles / sizeof *articles; i++) {
        put(norm, span_of(articles[i]), (bif_span){"", 0});
    }
    return norm;
}

void bif_vqa_norm_free(bif_vqa_norm *norm)
{
    if (norm != NULL) {
        bif_text_free(&norm->cleaned);
        bif_text_free(&norm->marked);
        bif_text_free(&norm->bare);
        bif_text_free(&norm->lowered);
        bif_text_free(&norm->words);
        bif_text_free(&norm->first);
        free(norm);
    }
}

bif_span bif_vqa_clean(bif_vqa_norm *norm, bif_span text)
{
    if (memchr(text.text, '\n', text.size) == NULL && memchr(text.text, '\t', text.size) == NULL) {
        return bif_text_strip(text);
    }
    bif_text_clear(&norm->cleaned);
    bif_text_add(&norm->cleaned, text.text, text.size);
    for (size_t i = 0; i < text.size; i++) {
        char *c = &norm->cleaned.text[i];
        *c = *c == '\n' || *c == '\t' ? ' ' : *c;
    }
    return bif_text_strip(bif_text_span(&norm->cleaned));
}

/* Decimal digit that begins at text[at] (behind: that ends before it). */
static bool digit_at(bif_span text, size_t at)
{
    uint32_t code = 0;
    return at < text.size && bif_utf8_decode(text.text + at, text.size - at, &code) > 0 && bif_text_is_digit(code);
}

static bool digit_before(bif_span text, size_t at)
{
    size_t from = at;
    while (from > 0 && at - from < 4) {
        from--;
        if (((unsigned char)text.text[from] & 0xC0) != 0x80) {
            return digit_at(text, from);
        }
    }
    return false;
}

/* A digit, a comma, a digit; by the expression of M4C's port any number of commas. */
static bool has_thousands(bif_span text, bif_norm rules)
{
    for (size_t i = 1; i + 1 < text.size; i++) {
        if (text.text[i] == ',' && digit_before(text, i)) {
            size_t next = i + 1;
            while (rules != BIF_NORM_OFFICIAL && rules != BIF_NORM_VLMEVALKIT && next < text.size && text.text[next] == ',') {
                next++;
            }
            if (digit_at(text, next)) {
                return true;
            }
        }
    }
    return false;
}

/* Of a text into norm->bare. */
static void punctuation(bif_vqa_norm *norm, bif_span text, bif_norm rules)
{
    bool everywhere = has_thousands(text, rules), deleted[128] = {false}, mark[128] = {false};
    for (const char *p = marks; *p != '\0'; p++) {
        mark[(unsigned char)*p] = true;
        deleted[(unsigned char)*p] = everywhere;
    }
    for (size_t i = 0; i + 1 < text.size; i++) { /* touches a space on either side */
        const unsigned char a = (unsigned char)text.text[i], b = (unsigned char)text.text[i + 1];
        if (a == ' ' && b < 0x80) {
            deleted[b] = true;
        }
        if (b == ' ' && a < 0x80) {
            deleted[a] = true;
        }
    }
    bif_text_buffer *out = &norm->marked;
    bif_text_clear(out);
    for (size_t i = 0; i < text.size; i++) {
        const unsigned char c = (unsigned char)text.text[i];
        if (c >= 0x80 || !mark[c]) {
            bif_text_add(out, text.text + i, 1);
        } else if (!deleted[c]) {
            bif_text_add(out, " ", 1);
        }
    }
    const bif_span whole = bif_text_span(out);
    int periods = 0;
    bif_text_clear(&norm->bare);
    for (size_t i = 0; i < whole.size; i++) {
        if (whole.text[i] == '.' && periods < 32 && !digit_at(whole, i + 1) && !(rules == BIF_NORM_VLMEVALKIT && digit_before(whole, i))) {
            periods++;
        } else {
            bif_text_add(&norm->bare, whole.text + i, 1);
        }
    }
}

bif_span bif_vqa_punctuation(bif_vqa_norm *norm, bif_span text, bif_norm rules)
{
    punctuation(norm, text, rules);
    return bif_text_span(&norm->bare);
}

bif_span bif_vqa_process(bif_vqa_norm *norm, bif_span text, bif_norm rules)
{
    bool plain = true; /* one word of small letters and digits, as most answers are */
    for (size_t i = 0; i < text.size && plain; i++) {
        const char c = text.text[i];
        plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    }
    if (plain) {
        const entry *e = find(norm, text);
        return e == NULL ? text : (bif_span){e->to, e->to_size};
    }
    punctuation(norm, text, rules);
    bif_text_clear(&norm->lowered);
    bif_text_lower(bif_text_span(&norm->bare), &norm->lowered);
    bif_text_clear(&norm->words);
    bif_span rest = bif_text_span(&norm->lowered), word;
    while (bif_text_word(&rest, &word)) {
        const entry *e = find(norm, word);
        if (e != NULL && e->to_size == 0) {
            continue;
        }
        if (norm->words.size > 0) {
            bif_text_add(&norm->words, " ", 1);
        }
        bif_text_add(&norm->words, e != NULL ? e->to : word.text, e != NULL ? e->to_size : word.size);
    }
    return bif_text_span(&norm->words);
}

bif_span bif_vqa_m4c(bif_vqa_norm *norm, bif_span text)
{
    bif_text_clear(&norm->lowered);
    bif_text_lower(text, &norm->lowered);
    bif_text_buffer *out = &norm->first;
    bif_text_clear(out);
    const bif_span low = bif_text_span(&norm->lowered);
    for (size_t i = 0; i < low.size; i++) {
        if (low.text[i] == '\'' && i + 1 < low.size) { /* commas and question marks between go first: "',s" is "'s" then */
            size_t next = i + 1;
            while (next < low.size && (low.text[next] == ',' || low.text[next] == '?')) {
                next++;
            }
            if (next < low.size && low.text[next] == 's') {
                bif_text_add(out, " ", 1);
            }
        }
        if (low.text[i] != ',' && low.text[i] != '?') {
            bif_text_add(out, low.text + i, 1);
        }
    }
    return bif_vqa_process(norm, bif_vqa_clean(norm, bif_text_span(out)), BIF_NORM_M4C);
}
