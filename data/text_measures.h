/* What can be measured of a caption without a model: lengths, letters, scripts, repetition, file names. Pure functions of the text; they
 * allocate little and fail never. Invalid UTF-8 is skipped byte by byte, each such byte a character that is no letter. */
#pragma once
#include "base/status.h"
#include "data/shard.h"

enum { BIF_SCRIPT_COUNT = 255 }; /* at most */
/* ISO 15924 codes ("Latn"), sorted; a script's number is its place. data/text_scripts.c, made of Unicode's table. */
extern const char bif_script_codes[][5];
extern const int bif_scripts;
extern const uint32_t bif_script_runs[];
extern const int bif_script_run_count;
/* Number of the script of a letter; -1 for what belongs to none (Zyyy, Zinh: signs that several scripts share). Of other characters nothing
 * is known. */
int bif_script_of(uint32_t code);
/* Scripts named by a list like "Latn,Hang" into set[script]. Jpan stands for Hira, Kana and Hani, Kore for Hang and Hani, Hans and Hant for
 * Hani. BIF_ERR_USAGE: an unknown one. */
bif_status bif_script_set(const char *list, bool set[BIF_SCRIPT_COUNT]);

typedef struct {
    int64_t chars;     /* code points, all of them (Python's len) */
    int64_t words;     /* runs of what is no white space (len of Python's split) */
    int64_t letters;   /* categories L* */
    int64_t scripted;  /* letters that belong to one script */
    double alphabetic; /* letters and marks (L*, M*) as a share of what is no white space; 0 of an empty text */
    int script;        /* the script that most letters have, the first of equals; -1 where no letter has one */
} bif_text_measures;
bif_text_measures bif_text_measure(const char *text, size_t size);
/* Share of the letters of any one script that is in the set; 0 without such letters. */
double bif_text_script_share(const char *text, size_t size, const bool set[BIF_SCRIPT_COUNT]);
/* Of the runs of n words (ASCII case does not count) the share that stood in the text before: 1 - distinct / all; 0 below n + 1 words. */
double bif_text_repetition(const char *text, size_t size, int64_t n);
/* The text is no description but a file's name, an address or a number: a URL (https://..., www...) without other words; anything that ends
 * with the extension of a picture or film (.jpg, .png, ...); what cameras and phones call files (IMG_1234, DSC 0042, PXL_20210101_120000,
 * Screenshot 2021-01-01, image (3)); digits alone with "-", "_", "." and spaces; or 16 and more hex digits. White space around does not
 * count. */
bool bif_text_is_file_name(const char *text, size_t size);
/* What captions that are the same have in common: the caption_hash of `data hash` (data/hash_text.h: case, white space and punctuation
 * around do not count); 0, 0 = nothing is left. */
void bif_text_key(const char *text, size_t size, uint64_t key[2]);

/* The text of a sample as the contrastive trainer takes it: its "caption", else the first "gpt" turn of its conversation; *out is malloc'ed
 * and terminated (zero bytes inside become spaces), NULL where there is none (or the record is no JSON; that is no failure). */
void bif_sample_caption(const bif_shard_sample *sample, char **out, size_t *size);
