/* Exact match of short Korean answers (and English ones), after what does not change an answer: full-width ASCII and spaces become
 * ordinary, NFC, small letters, single spaces, no quotes around and no punctuation at the end; "정답은", "답은", "정답:", "답:" before and
 * the endings "입니다", "이에요", "예요" behind; one word for yes (네) and one for no (아니오).
 *
 * Of the particles only 은, 는, 을, 를 go, from a prediction that is a reference of two syllables or more with the particle that its last
 * sound wants behind it. 이, 가, 와, 과, 의, 도 stay: 고양 and 고양이 (a city, a cat), 화 and 화가 (anger, a painter) are different
 * answers. Nothing is ever cut off a reference. */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "eval/score.h"

static bool ends_with(bif_span text, const char *tail)
{
    const size_t size = strlen(tail);
    return text.size >= size && memcmp(text.text + text.size - size, tail, size) == 0;
}

static bif_span without_end(bif_span text, size_t size)
{
    return (bif_span){text.text, text.size - size};
}

static bool is_one_of(bif_span text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (bif_span_is(text, words[i])) {
            return true;
        }
    }
    return false;
}

/* Code point of the last character; *size its bytes. */
static uint32_t last_code(bif_span text, size_t *size)
{
    uint32_t code = 0;
    *size = 0;
    while (*size < text.size && *size < 4) {
        ++*size;
        if (((unsigned char)text.text[text.size - *size] & 0xC0) != 0x80) {
            bif_utf8_decode(text.text + text.size - *size, *size, &code);
            break;
        }
    }
    return code;
}

static bool is_syllable(uint32_t code)
{
    return code >= 0xAC00 && code <= 0xD7A3;
}

/* Full-width ASCII and the ideographic space to ASCII, NFC, lower case, single spaces: into `out`. */
static void plain(bif_span text, bif_text_buffer *work, bif_text_buffer *out)
{
    bif_text_clear(work);
    for (size_t at = 0; at < text.size;) {
        uint32_t code = 0;
        char bytes[4];
        const size_t step = bif_utf8_decode(text.text + at, text.size - at, &code);
        code = code >= 0xFF01 && code <= 0xFF5E ? code - 0xFEE0 : code == 0x3000 ? ' ' : code;
        if (step > 0) {
            bif_text_add(work, bytes, bif_utf8_encode(code, bytes));
        }
        at += step > 0 ? step : 1;
    }
    utf8proc_uint8_t *composed = NULL;
    const utf8proc_ssize_t size = utf8proc_map((const utf8proc_uint8_t *)bif_text_span(work).text, (utf8proc_ssize_t)work->size, &composed,
                                               UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (size >= 0) {
        bif_text_clear(work);
        bif_text_add(work, (const char *)composed, (size_t)size);
    }
    free(composed);
    bif_text_buffer low = {0};
    bif_text_lower(bif_text_span(work), &low);
    bif_text_clear(out);
    bif_span rest = bif_text_span(&low), word;
    while (bif_text_word(&rest, &word)) {
        bif_text_add(out, " ", out->size > 0);
        bif_text_add(out, word.text, word.size);
    }
    bif_text_free(&low);
}

/* Quotes around, punctuation at the end. */
static bif_span bare(bif_span text)
{
    static const char *const ends[] = {".", ",", "!", "?", "~", ";", ":", "\"", "'", "。", "、", "…", "”", "’", "」", "』"};
    static const char *const begins[] = {"\"", "'", "“", "‘", "「", "『"};
    for (bool again = true; again;) {
        again = false;
        text = bif_text_strip(text);
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
            if (ends_with(text, ends[i]) && text.size > strlen(ends[i])) {
                text = without_end(text, strlen(ends[i]));
                again = true;
            }
        }
        for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
            const size_t size = strlen(begins[i]);
            if (text.size > size && memcmp(text.text, begins[i], size) == 0) {
                text = (bif_span){text.text + size, text.size - size};
                again = true;
            }
        }
    }
    return text;
}

static bif_span yes_or_no(bif_span text)
{
    static const char *const yes[] = {"네", "예", "응", "네네", "맞습니다", "맞아요", "맞다", "그렇습니다", "그래요", "그렇다", "yes"};
    static const char *const no[] = {"아니오", "아니요", "아뇨", "아니", "아닙니다", "아니에요", "아니다", "틀립니다", "no"};
    return is_one_of(text, yes, sizeof yes / sizeof *yes) ? (bif_span){"네", 3}
           : is_one_of(text, no, sizeof no / sizeof *no)  ? (bif_span){"아니오", 9}
                                                          : text;
}

/* "정답은 X입니다": X. */
static bif_span core_of(bif_span text)
{
    static const char *const before[] = {"정답은", "답은", "정답:", "답:", "정답 :", "답 :"};
    for (size_t i = 0; i < sizeof before / sizeof *before; i++) {
        const size_t size = strlen(before[i]);
        if (text.size > size && memcmp(text.text, before[i], size) == 0) {
            text = bare((bif_span){text.text + size, text.size - size});
            break;
        }
    }
    if (yes_or_no(text).text != text.text) {
        return text;
    }
    size_t last = 0;
    if (ends_with(text, "입니다") && text.size > 9) {
        text = without_end(text, 9);
    } else if (ends_with(text, "이에요") && text.size > 9) {
        const uint32_t code = last_code(without_end(text, 9), &last);
        text = is_syllable(code) && (code - 0xAC00) % 28 == 0 ? text : without_end(text, 9); /* behind a vowel it is 예요 */
    } else if (ends_with(text, "예요") && text.size > 6) {
        const uint32_t code = last_code(without_end(text, 6), &last);
        text = is_syllable(code) && (code - 0xAC00) % 28 != 0 ? text : without_end(text, 6);
    }
    return bare(text);
}

/* The prediction is the reference and a particle. */
static bool with_particle(bif_span said, bif_span right)
{
    size_t last = 0;
    const uint32_t code = last_code(right, &last);
    if (!is_syllable(code) || right.size < 6 || said.size != right.size + 3 || memcmp(said.text, right.text, right.size) != 0) {
        return false;
    }
    const bool closed = (code - 0xAC00) % 28 != 0;
    return closed ? ends_with(said, "은") || ends_with(said, "을") : ends_with(said, "는") || ends_with(said, "를");
}

static bif_status score_korean(bif_score_set *set, bif_norm norm)
{
    (void)norm;
    bif_text_buffer work = {0}, said = {0}, right = {0};
    for (int64_t i = 0; i < set->count; i++) {
        bif_score_item *item = &set->items[i];
        plain(item->prediction, &work, &said);
        const bif_span whole = bare(bif_text_span(&said)), core = core_of(whole);
        item->parsed = bif_score_keep(set, yes_or_no(core));
        for (int64_t k = 0; k < item->answer_count && item->score < 1.0; k++) {
            plain(item->answers[k], &work, &right);
            const bif_span wanted = bare(bif_text_span(&right));
            item->score = bif_span_equal(whole, wanted) || bif_span_equal(core, wanted) ||
                          bif_span_equal(yes_or_no(core), yes_or_no(wanted)) || with_particle(core, wanted);
        }
    }
    bif_text_free(&work);
    bif_text_free(&said);
    bif_text_free(&right);
    return BIF_OK;
}

const bif_score_task bif_task_korean = {
    .name = "korean",
    .title = "exact match of short Korean answers",
    .references = "JSONL of question_id, answer (a text, or a list of them), image, type",
    .rule = "full-width ASCII, NFC, case, spaces, punctuation at the end, 입니다/이에요/예요, 은/는/을/를 and the words for yes and no do "
            "not count",
    .dimension = {"type"},
    .read = bif_score_read_questions,
    .score = score_korean,
};
