/* fixture DIR COUNT: a small data set for command-line tests. COUNT pictures of one coloured square each (PNG, 16 to 40 pixels a side), and
 *   captions.jsonl        one caption a picture
 *   conversations.jsonl   one to three turns a picture; every 5th record is text only, every 7th has two pictures
 *   questions.jsonl       question_id, image, question, answer, type
 *   classes.txt, labels.jsonl */
#include <png.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char *const names[] = {"red", "green", "blue", "white"};
static const unsigned char colours[][3] = {{220, 30, 30}, {20, 200, 40}, {30, 40, 230}, {240, 240, 240}};

static void write_png(const char *path, int number)
{
    const int width = 16 + number * 7 % 25, height = 16 + number * 5 % 25, left = number % 6, side = 8 + number % 5;
    unsigned char *rgb = calloc((size_t)(width * height), 3);
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            const int inside = x >= left && x < left + side && y >= left && y < left + side;
            memcpy(rgb + 3 * (y * width + x), inside ? colours[number % 4] : (unsigned char[]){90, 90, 90}, 3);
        }
    }
    png_image image = {.version = PNG_IMAGE_VERSION, .width = (png_uint_32)width, .height = (png_uint_32)height, .format = PNG_FORMAT_RGB};
    if (!png_image_write_to_file(&image, path, 0, rgb, 0, NULL)) {
        fprintf(stderr, "fixture: cannot write %s\n", path);
        exit(1);
    }
    free(rgb);
}

static FILE *create(const char *dir, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    return file;
}

static void turn(FILE *f, const char *before, const char *question, const char *answer, int more)
{
    fprintf(f, "{\"from\":\"human\",\"value\":\"%s%s\"},{\"from\":\"gpt\",\"value\":\"%s\"}%s", before, question, answer, more ? "," : "");
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: fixture DIR COUNT\n");
        return 64;
    }
    const char *dir = argv[1];
    const int count = atoi(argv[2]);
    char path[4096];
    mkdir(dir, 0777);
    snprintf(path, sizeof path, "%s/images", dir);
    mkdir(path, 0777);
    FILE *captions = create(dir, "captions.jsonl"), *talks = create(dir, "conversations.jsonl"), *questions = create(dir, "questions.jsonl");
    FILE *classes = create(dir, "classes.txt"), *labels = create(dir, "labels.jsonl");
    for (int c = 0; c < 4; c++) {
        fprintf(classes, "a %s square\n", names[c]);
    }
    for (int i = 0; i < count; i++) {
        const char *name = names[i % 4];
        snprintf(path, sizeof path, "%s/images/%d.png", dir, i);
        write_png(path, i);
        fprintf(captions, "{\"id\":\"%d\",\"image\":\"%d.png\",\"caption\":\"a %s square\"}\n", i, i, name);
        fprintf(labels, "{\"image\":\"%d.png\",\"label\":\"a %s square\"}\n", i, name);
        fprintf(questions, "{\"question_id\":%d,\"image\":\"%d.png\",\"question\":\"what color is the square?\",\"answer\":\"%s\",\"type\":\"color\"}\n", i,
                i, name);
        fprintf(talks, "{\"id\":\"%d\",", i);
        if (i % 5 == 4) { /* text only */
            fprintf(talks, "\"conversations\":[");
            turn(talks, "", "what is two and two?", "four, as everybody knows", 0);
        } else if (i % 7 == 6 && i > 0) {
            fprintf(talks, "\"image\":[\"%d.png\",\"%d.png\"],\"conversations\":[", i - 1, i);
            turn(talks, "<image>\\n<image>\\n", "what is on the second picture?", name, 0);
        } else {
            fprintf(talks, "\"image\":\"%d.png\",\"conversations\":[", i);
            turn(talks, "<image>\\n", "what color is the square?", name, i % 3 > 0);
            if (i % 3 > 0) {
                turn(talks, "", "is it red?", i % 4 == 0 ? "yes" : "no", i % 3 > 1);
            }
            if (i % 3 > 1) {
                turn(talks, "", "describe it", i % 2 ? "a plain square on grey" : "one square, nothing else", 0);
            }
        }
        fprintf(talks, "]}\n");
    }
    fclose(captions);
    fclose(talks);
    fclose(questions);
    fclose(classes);
    fclose(labels);
    return 0;
}
