/* Says which rooms stand on this one; keeps the library from being empty. */
extern int bif_room_launch;
int bif_room_launch;
