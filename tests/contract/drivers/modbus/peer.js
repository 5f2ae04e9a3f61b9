// A Modbus TCP server of the npm package modbus-serial: as a meter that is one host, or as unit 7 only.
// node peer.js PORT UNIT (255: whatever unit is asked); prints "ready" when it serves.
const { ServerTCP } = require("modbus-serial");
const [port, unit] = process.argv.slice(2).map(Number);
const values = { 0: 230.5, 2: 21.25 };
function input(address) {
  const cell = Buffer.alloc(4);
  if (!(address - (address % 2) in values)) throw { modbusErrorCode: 2, msg: "no such register" };
  cell.writeFloatBE(values[address - (address % 2)]);
  return cell.readUInt16BE(2 * (address % 2));
}
const vector = {
  getInputRegister: input,
  getHoldingRegister: (address) => {
    if (address > 99) throw { modbusErrorCode: 2, msg: "no such register" };
    return 2000 + address;
  },
  getCoil: (address) => address === 3,
};
const server = new ServerTCP(vector, { host: "127.0.0.1", port, unitID: unit, debug: false });
server.on("initialized", () => console.log("ready"));
server.on("socketError", () => {});
