/* The texts are those of LLaVA's and LLaVA-NeXT's conversation.py, and for llama_3 and chatml those of the checkpoints' own chat
 * templates. */
#include "data/chat_templates.h"

#include <stdlib.h>
#include <string.h>

#define B BIF_FRAME_BOS
#define E BIF_FRAME_EOS
#define START "<|im_start|>"
#define END "<|im_end|>"
#define HEADER(role) "<|start_header_id|>" role "<|end_header_id|>\n\n"
#define EYES                                                                                                                \
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, " \
    "and assist the user with a variety of tasks using natural language."

const bif_template bif_templates[BIF_TEMPLATE_KINDS] = {
    [BIF_TEMPLATE_PLAIN] = {.name = "plain", .aliases = "v0_plain", .system = "", .begin = B, .system_open = "", .system_close = "",
        .user_open = "", .user_close = "", .answer_open = "", .answer_lead = "", .answer_close = "\n", .answer_after = "", .stop = E,
        .no_question = true},
    [BIF_TEMPLATE_VICUNA_V1] = {.name = "vicuna_v1", .aliases = "v1|vicuna",
        .system = "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
                  "polite answers to the user's questions.",
        .begin = B, .system_open = "", .system_close = " ", .user_open = "USER: ", .user_close = " ", .user_empty = "USER:",
        .answer_open = "ASSISTANT:", .answer_lead = " ", .answer_close = E, .answer_after = "", .stop = E},
    [BIF_TEMPLATE_LLAVA_V1] = {.name = "llava_v1", .aliases = NULL,
        .system = "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and "
                  "polite answers to the human's questions.",
        .begin = B, .system_open = "", .system_close = " ", .user_open = "USER: ", .user_close = " ", .user_empty = "USER:",
        .answer_open = "ASSISTANT:", .answer_lead = " ", .answer_close = E, .answer_after = "", .stop = E},
    [BIF_TEMPLATE_LLAMA_2] = {.name = "llama_2", .aliases = "llava_llama_2|llama2", .system = EYES, .begin = "",
        .system_open = "<<SYS>>\n", .system_close = "\n<</SYS>>\n\n", .system_in_turn = true,
        .user_open = B "[INST] ", .user_close = " [/INST]",
        .answer_open = "", .answer_lead = " ", .answer_close = " " E, .answer_after = "", .stop = E},
    [BIF_TEMPLATE_LLAMA_3] = {.name = "llama_3", .aliases = "llava_llama_3|llama3", .system = EYES, .begin = "<|begin_of_text|>",
        .system_open = HEADER("system"), .system_close = "<|eot_id|>", .user_open = HEADER("user"), .user_close = "<|eot_id|>",
        .answer_open = HEADER("assistant"), .answer_lead = "", .answer_close = "<|eot_id|>", .answer_after = "", .stop = "<|eot_id|>",
        .strips = true},
    [BIF_TEMPLATE_MISTRAL] = {.name = "mistral", .aliases = "mistral_instruct|llava_mistral_instruct", .system = "", .begin = B,
        .system_open = "<<SYS>>\n", .system_close = "\n<</SYS>>\n\n", .system_in_turn = true,
        .user_open = "[INST] ", .user_close = " [/INST]",
        .answer_open = "", .answer_lead = " ", .answer_close = " " E, .answer_after = "", .stop = E},
    [BIF_TEMPLATE_CHATML] = {.name = "chatml", .aliases = "qwen|qwen_1_5|qwen_2", .system = "You are a helpful assistant.", .begin = "",
        .system_open = START "system\n", .system_close = END "\n", .user_open = START "user\n", .user_close = END "\n",
        .answer_open = START "assistant\n", .answer_lead = "", .answer_close = END, .answer_after = "\n", .stop = END},
    [BIF_TEMPLATE_QWEN_2_5] = {.name = "qwen_2_5", .aliases = "qwen2_5",
        .system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.", .begin = "",
        .system_open = START "system\n", .system_close = END "\n", .user_open = START "user\n", .user_close = END "\n",
        .answer_open = START "assistant\n", .answer_lead = "", .answer_close = END, .answer_after = "\n", .stop = END},
    [BIF_TEMPLATE_MPT] = {.name = "mpt", .aliases = NULL,
        .system = "A conversation between a user and an LLM-based AI assistant. The assistant gives helpful and honest answers.",
        .begin = "",
        .system_open = START "system\n", .system_close = END, .user_open = START "user\n", .user_close = END,
        .answer_open = START "assistant\n", .answer_lead = "", .answer_close = END, .answer_after = "", .stop = END},
    [BIF_TEMPLATE_CHATML_DIRECT] = {.name = "chatml_direct", .aliases = "mistral_direct", .system = "Answer the questions.", .begin = "",
        .system_open = START "system\n", .system_close = END, .user_open = START "user\n", .user_close = END,
        .answer_open = START "assistant\n", .answer_lead = "", .answer_close = END, .answer_after = "", .stop = END},
};

static bool listed(const char *list, const char *name)
{
    const size_t size = strlen(name);
    for (const char *at = list, *bar; at != NULL; at = bar != NULL ? bar + 1 : NULL) {
        const size_t length = strcspn(at, "|");
        if (length == size && strncmp(at, name, size) == 0) {
            return true;
        }
        bar = strchr(at, '|');
    }
    return false;
}

bif_status bif_template_by_name(const char *name, bif_template_kind *out)
{
    for (int i = 0; i < BIF_TEMPLATE_KINDS; i++) {
        if (strcmp(name, bif_templates[i].name) == 0 || listed(bif_templates[i].aliases, name)) {
            *out = (bif_template_kind)i;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_CONFIG, "there is no template '%s' (%s)", name, BIF_TEMPLATE_NAMES);
}

const char *bif_template_name(bif_template_kind kind)
{
    return bif_templates[kind].name;
}

static const char *const places[] = {[BIF_IMAGE_FRONT] = "front", [BIF_IMAGE_KEEP] = "keep", [BIF_IMAGE_LLAVA_NEXT] = "llava_next"};

bif_status bif_image_place_by_name(const char *name, bif_image_place *out)
{
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (strcmp(name, places[i]) == 0) {
            *out = (bif_image_place)i;
            return BIF_OK;
        }
    }
    return bif_fail(BIF_ERR_CONFIG, "'%s' is no place of pictures (front, keep, llava_next)", name);
}

const char *bif_image_place_name(bif_image_place place)
{
    return places[place];
}

/* ---- Jinja ---- */

typedef struct {
    char *text;
    size_t used, capacity;
    const char *bos, *eos;
} jinja;

static void put_n(jinja *j, const char *text, size_t size)
{
    if (j->used + size + 1 > j->capacity) {
        j->capacity = (j->used + size + 1) * 2;
        j->text = bif_realloc(j->text, j->capacity, 1);
    }
    memcpy(j->text + j->used, text, size);
    j->used += size;
    j->text[j->used] = '\0';
}

static void put(jinja *j, const char *text)
{
    put_n(j, text, strlen(text));
}

/* A string literal; BOS and EOS stand in it as their text. */
static void quote(jinja *j, const char *text)
{
    put(j, "'");
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '\1': put(j, j->bos != NULL ? j->bos : ""); break;
        case '\2': put(j, j->eos); break;
        case '\n': put(j, "\\n"); break;
        case '\r': put(j, "\\r"); break;
        case '\t': put(j, "\\t"); break;
        case '\'': put(j, "\\'"); break;
        case '\\': put(j, "\\\\"); break;
        default: put_n(j, text, 1);
        }
    }
    put(j, "'");
}

/* before + what + after, printed. */
static void print(jinja *j, const char *before, const char *what, const char *after)
{
    put(j, "{{- ");
    quote(j, before);
    put(j, " + ");
    put(j, what);
    put(j, " + ");
    quote(j, after);
    put(j, " -}}\n");
}

/* The question's text and number of pictures into q.text and q.images, as chat.c's put_question writes them. */
static void put_content(jinja *j, const bif_template *t, bif_image_place place)
{
    put(j, "{%- set q = namespace(text='', images=0) -%}\n"
           "{%- if m['content'] is string -%}{%- set q.text = m['content'] -%}\n"
           "{%- else -%}{%- for part in m['content'] -%}\n"
           "{%- if part['type'] == 'text' -%}{%- set q.text = q.text + part['text'] -%}\n"
           "{%- elif part['type'] == 'image' -%}{%- set q.text = q.text + '<image>' -%}{%- endif -%}\n"
           "{%- endfor -%}{%- endif -%}\n");
    if (t->strips) {
        put(j, "{%- set q.text = q.text | trim -%}\n");
    }
    put(j, "{%- set q.images = (q.text.split('<image>') | length) - 1 -%}\n");
    if (t->no_question) {
        put(j, "{%- if m['role'] == 'user' -%}{%- set q.text = '<image>' * q.images -%}{%- endif -%}\n");
    } else if (place != BIF_IMAGE_KEEP) {
        put(j, "{%- if m['role'] == 'user' and ");
        put(j, place == BIF_IMAGE_FRONT ? "q.images" : "q.images == 1 and not q.text.startswith('<image>')");
        put(j, " -%}{%- set q.text = ('<image>\\n' * q.images + (q.text.replace('<image>', '') | trim)) | trim -%}{%- endif -%}\n");
    }
}

char *bif_template_jinja(bif_template_kind kind, const char *system, bif_image_place place, const char *bos, const char *eos)
{
    const bif_template *t = &bif_templates[kind];
    jinja j = {.bos = bos, .eos = eos};
    put(&j, "{%- set s = namespace(system=");
    quote(&j, t->no_question ? "" : system != NULL ? system : t->system);
    put(&j, ", open=true) -%}\n");
    print(&j, t->begin, "''", "");
    put(&j, "{%- for m in messages -%}\n");
    put_content(&j, t, place);
    put(&j, "{%- if m['role'] == 'system' -%}{%- set s.system = ");
    put(&j, t->no_question ? "''" : "q.text");
    put(&j, " -%}\n{%- else -%}\n");
    put(&j, "{%- set head = s.system if s.open else '' -%}\n");
    if (!t->system_in_turn) {
        put(&j, "{%- if head -%}");
        print(&j, t->system_open, "head", t->system_close);
        put(&j, "{%- endif -%}\n");
    }
    put(&j, "{%- set s.open = false -%}\n"
            "{%- if m['role'] == 'user' -%}\n");
    if (t->user_empty != NULL) {
        put(&j, "{%- if q.text == '' -%}");
        print(&j, t->user_empty, "''", "");
        put(&j, "{%- else -%}");
    }
    if (t->system_in_turn) {
        put(&j, "{%- if head -%}{%- set q.text = ");
        quote(&j, t->system_open);
        put(&j, " + head + ");
        quote(&j, t->system_close);
        put(&j, " + q.text -%}{%- endif -%}\n");
    }
    print(&j, t->user_open, "q.text", t->user_close);
    put(&j, t->user_empty != NULL ? "{%- endif -%}\n" : "");
    put(&j, "{%- else -%}\n");
    char *lead = bif_format("%s%s", t->answer_open, t->answer_lead), *end = bif_format("%s%s", t->answer_close, t->answer_after);
    print(&j, lead, "q.text", end);
    free(lead);
    free(end);
    put(&j, "{%- endif -%}{%- endif -%}\n{%- endfor -%}\n{%- if add_generation_prompt -%}");
    print(&j, t->answer_open, "''", "");
    put(&j, "{%- endif -%}\n");
    return j.text;
}
