/* A Modbus device of Debian's libmodbus: `peer tcp PORT` or `peer rtu PATH`. Input register n holds
   1000 + n, holding registers keep what is written to them. */
#include <errno.h>
#include <modbus/modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    int tcp = argc > 2 && !strcmp(argv[1], "tcp"), door = -1, got;
    modbus_t *line = tcp ? modbus_new_tcp("127.0.0.1", atoi(argv[2]))
                         : modbus_new_rtu(argv[2], 19200, 'N', 8, 1);
    modbus_mapping_t *cells = modbus_mapping_new(16, 0, 100, 100);
    unsigned char asked[MODBUS_TCP_MAX_ADU_LENGTH];
    for (int n = 0; n < 100; n++) cells->tab_input_registers[n] = 1000 + n;
    modbus_set_slave(line, 7);
    if (tcp && ((door = modbus_tcp_listen(line, 1)) < 0)) return 1;
    if (!tcp && modbus_connect(line)) return 1;
    puts("ready");
    fflush(stdout);
    if (tcp) modbus_tcp_accept(line, &door);
    while ((got = modbus_receive(line, asked)) >= 0 || errno == EMBBADCRC || errno == ETIMEDOUT)
        if (got > 0) modbus_reply(line, asked, got, cells);
    return 0;
}
