#include "eval/choice.h"

#include <ctype.h>
#include <string.h>

#include "base/utf8.h"

static bool holds(bif_span text, bif_span word)
{
    return word.size == 0 || (text.size >= word.size && memmem(text.text, text.size, word.text, word.size) != NULL);
}

static bool holds_text(bif_span text, const char *word)
{
    return holds(text, (bif_span){word, strlen(word)});
}

char bif_choice_llava(bif_span answer, int count)
{
    static const char phrase[] = "The answer is ";
    char letter = 0;
    int found = 0;
    if (answer.size > 0 && answer.text[0] >= 'A' && answer.text[0] <= 'E' &&
        (answer.size == 1 || (answer.size >= 3 && answer.text[1] == '.' && answer.text[2] == ' '))) {
        letter = answer.text[0];
        found = 1;
    } else {
        for (const char *p = answer.text, *end = answer.text + answer.size;
             answer.size > 0 && (p = memmem(p, (size_t)(end - p), phrase, sizeof phrase - 1)) != NULL;) {
            const char *at = p + sizeof phrase - 1;
            uint32_t code = 0;
            const size_t step = at + 1 < end ? bif_utf8_decode(at + 1, (size_t)(end - at - 1), &code) : 0;
            if (step > 0 && *at >= 'A' && *at <= 'Z' && code != '\n') {
                letter = *at;
                found++;
                p = at + 1 + step;
            } else {
                p = at;
            }
        }
    }
    return found == 1 && letter - 'A' < count && letter <= 'E' ? letter : 0;
}

char bif_choice_lmms_front(bif_span answer)
{
    answer = bif_text_strip(answer);
    if (answer.size == 1 && isalpha((unsigned char)answer.text[0])) {
        return (char)toupper((unsigned char)answer.text[0]);
    }
    return answer.size >= 2 && answer.text[0] >= 'A' && answer.text[0] <= 'Z' && answer.text[1] == '.' ? answer.text[0] : 0;
}

/* The one option whose text in small letters is in the answer's. */
static char by_text(bif_text_buffer *buffer, bif_span answer, const bif_options *options)
{
    char letter = 0;
    int found = 0;
    bif_text_clear(buffer);
    bif_text_lower(answer, buffer);
    const size_t size = buffer->size;
    for (int i = 0; i < BIF_OPTIONS; i++) {
        if (options->text[i].text != NULL) {
            buffer->size = size;
            bif_text_lower(options->text[i], buffer);
            const char *text = bif_text_span(buffer).text;
            if (holds((bif_span){text, size}, (bif_span){text + size, buffer->size - size})) {
                letter = (char)('A' + i);
                found++;
            }
        }
    }
    return found == 1 ? letter : 0;
}

char bif_choice_lmms(bif_text_buffer *buffer, bif_span answer, const bif_options *options)
{
    static const char *const around[][2] = {{"", ""},    {"", "."}, {"", ","},  {"", ":"},  {"", ")"},  {"", ")."}, {"(", ")"},
                                            {"(", ")."}, {":", ""}, {":", ","}, {":", "."}, {":", ")"}, {":", ")."}};
    enum { FORMS = sizeof around / sizeof *around };
    bool seen[FORMS][5] = {{false}};
    bif_span rest = answer, word;
    int words = 0;
    if (holds_text(answer, "Failed to obtain answer via API")) {
        words = -1;
    }
    while (words >= 0 && bif_text_word(&rest, &word)) {
        words++;
        for (int f = 0; f < FORMS; f++) {
            const size_t before = strlen(around[f][0]), behind = strlen(around[f][1]);
            if (word.size == before + 1 + behind && memcmp(word.text, around[f][0], before) == 0 &&
                memcmp(word.text + before + 1, around[f][1], behind) == 0 && word.text[before] >= 'A' && word.text[before] <= 'E') {
                seen[f][word.text[before] - 'A'] = true;
            }
        }
    }
    for (int f = 0; f < FORMS; f++) {
        int count = 0;
        char letter = 0;
        for (int i = 0; i < 5; i++) {
            count += seen[f][i];
            letter = seen[f][i] ? (char)('A' + i) : letter;
        }
        if (count == 1 && !(f == 0 && letter == 'A' && words > 3)) {
            return letter;
        }
    }
    bif_options four = {0};
    for (int i = 0; i < 4; i++) {
        four.text[i] = options->text[i].text != NULL ? options->text[i] : (bif_span){"nan", 3};
    }
    return by_text(buffer, answer, &four);
}

static char vlmevalkit_option(bif_text_buffer *buffer, bif_span answer, const bif_options *options)
{
    static const char *const refusals[] = {"Sorry, I can't help with images of people yet.", "I can't process this file.",
                                           "I'm sorry, but without the image provided", "Cannot determine the answer"};
    if (holds_text(answer, "Failed to obtain answer via API")) {
        return 0;
    }
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        if (holds_text(answer, refusals[i])) {
            return 'Z';
        }
    }
    bif_text_clear(buffer);
    bif_text_add(buffer, answer.text, answer.size);
    for (size_t i = 0; i < buffer->size; i++) {
        buffer->text[i] = buffer->text[i] != '\0' && strchr(".()[],:;!*#{}", buffer->text[i]) != NULL ? ' ' : buffer->text[i];
    }
    int64_t first[BIF_OPTIONS], words = 0;
    memset(first, -1, sizeof first);
    bif_span rest = bif_text_span(buffer), word;
    for (; bif_text_word(&rest, &word); words++) {
        if (word.size == 1 && *word.text >= 'A' && *word.text <= 'Z' && first[*word.text - 'A'] < 0) {
            first[*word.text - 'A'] = words;
        }
    }
    int count = 0;
    char letter = 0;
    for (int i = 0; i < BIF_OPTIONS; i++) {
        if (options->text[i].text != NULL && first[i] >= 0) {
            count++;
            letter = (char)('A' + i);
        }
    }
    if (count == 1 && first[letter - 'A'] > words - 5) {
        return letter;
    }
    return count == 0 && first['Z' - 'A'] >= 0 ? 'Z' : 0;
}

char bif_choice_vlmevalkit(bif_text_buffer *buffer, bif_span answer, const bif_options *options)
{
    const char letter = vlmevalkit_option(buffer, answer, options);
    if (letter != 0) {
        return letter;
    }
    size_t most = 0;
    for (int i = 0; i < BIF_OPTIONS; i++) {
        most += options->text[i].text != NULL ? 2 * bif_text_characters(options->text[i]) : 0;
    }
    bif_text_clear(buffer);
    bif_text_lower(answer, buffer);
    return bif_text_characters(bif_text_span(buffer)) > most ? 0 : by_text(buffer, answer, options);
}
