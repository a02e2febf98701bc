#include "eval/yes_no.h"

#include <string.h>

#include "base/utf8.h"

const char *bif_yes_no_name(bif_yes_no answer)
{
    return answer == BIF_YES ? "yes" : answer == BIF_NO ? "no" : "other";
}

void bif_yes_no_open(bif_yes_no_parser *parser)
{
    *parser = (bif_yes_no_parser){.norm = bif_vqa_norm_new()};
}

void bif_yes_no_close(bif_yes_no_parser *parser)
{
    bif_vqa_norm_free(parser->norm);
    bif_text_free(&parser->low);
}

bif_yes_no bif_yes_no_pope(bif_span text)
{
    const char *period = text.size > 0 ? memchr(text.text, '.', text.size) : NULL;
    const size_t size = period != NULL ? (size_t)(period - text.text) : text.size;
    char word[4]; /* of the word so far, commas left out; a longer one is none of the three */
    size_t length = 0;
    for (size_t i = 0; i <= size; i++) {
        if (i == size || text.text[i] == ' ') {
            if ((length == 2 && (memcmp(word, "No", 2) == 0 || memcmp(word, "no", 2) == 0)) ||
                (length == 3 && memcmp(word, "not", 3) == 0)) {
                return BIF_NO;
            }
            length = 0;
        } else if (text.text[i] != ',') {
            word[length < 3 ? length : 3] = text.text[i];
            length += length < 4;
        }
    }
    return BIF_YES;
}

static bif_span lowered(bif_yes_no_parser *parser, bif_span text)
{
    bif_text_clear(&parser->low);
    bif_text_lower(text, &parser->low);
    return bif_text_span(&parser->low);
}

static bif_yes_no word_of(bif_span text)
{
    return bif_span_is(text, "yes") ? BIF_YES : bif_span_is(text, "no") ? BIF_NO : BIF_NEITHER;
}

bif_yes_no bif_yes_no_exact(bif_yes_no_parser *parser, bif_span text)
{
    return word_of(bif_text_strip(lowered(parser, text)));
}

bif_yes_no bif_yes_no_prefix(bif_yes_no_parser *parser, bif_span text, bool lmms)
{
    bif_span low = lowered(parser, text);
    if (lmms) {
        low = bif_text_strip(low);
        const size_t skipped = (size_t)(low.text - bif_text_span(&parser->low).text);
        char *to = parser->low.text + (parser->low.size > 0 ? skipped : 0);
        size_t kept = 0;
        for (size_t i = 0; i < low.size; i++) {
            if (low.text[i] != '.') {
                to[kept++] = low.text[i];
            }
        }
        low.size = kept;
        if (low.size == 1 && (*low.text == 'y' || *low.text == 'n')) {
            return *low.text == 'y' ? BIF_YES : BIF_NO;
        }
    }
    size_t size = 0;
    uint32_t code = 0;
    for (int i = 0; i < 4 && size < low.size; i++) {
        const size_t step = bif_utf8_decode(low.text + size, low.size - size, &code);
        size += step > 0 ? step : 1;
    }
    for (size_t i = 0; i + 3 <= size; i++) {
        if (memcmp(low.text + i, "yes", 3) == 0) {
            return BIF_YES;
        }
    }
    for (size_t i = 0; i + 2 <= size; i++) {
        if (memcmp(low.text + i, "no", 2) == 0) {
            return BIF_NO;
        }
    }
    return BIF_NEITHER;
}

bif_yes_no bif_yes_no_words(bif_yes_no_parser *parser, bif_span text)
{
    bif_span rest = bif_vqa_punctuation(parser->norm, lowered(parser, text), BIF_NORM_VLMEVALKIT), word;
    bool yes = false, no = false;
    while (bif_text_word(&rest, &word)) {
        yes = yes || word_of(word) == BIF_YES;
        no = no || word_of(word) == BIF_NO;
    }
    return yes == no ? BIF_NEITHER : yes ? BIF_YES : BIF_NO;
}
