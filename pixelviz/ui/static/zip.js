// Files as one zip, stored as they are: what is packed here is compressed already.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte >>> 0;
});
const NAMES_ARE_UTF8 = 0x0800, VERSION = 20, FIRST_OF_JANUARY_1980 = 0x21;

/** @param {Uint8Array} bytes CRC-32, as zip and PNG have it */
export function crc(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) sum = TABLE[(sum ^ byte) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

/**
 * Little-endian numbers, each [how many bytes, value].
 * @param {[number, number][]} numbers
 */
function packed(numbers) {
  const bytes = new Uint8Array(numbers.reduce((sum, [size]) => sum + size, 0));
  let at = 0;
  for (const [size, value] of numbers) for (let k = 0; k < size; k++) bytes[at++] = (value >>> (8 * k)) & 255;
  return bytes;
}

/**
 * @param {[string, Uint8Array][]} files names and contents
 * @returns {Uint8Array[]} the zip, in pieces
 */
export function zip(files) {
  const pieces = [], central = [];
  let place = 0;
  for (const [name, content] of files) {
    const letters = new TextEncoder().encode(name);
    /** @type {[number, number][]} */
    const about = [[2, VERSION], [2, NAMES_ARE_UTF8], [2, 0], [2, 0], [2, FIRST_OF_JANUARY_1980], [4, crc(content)],
      [4, content.length], [4, content.length], [2, letters.length], [2, 0]];
    central.push(packed([[4, 0x02014b50], [2, VERSION], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, place]]), letters);
    const here = [packed([[4, 0x04034b50], ...about]), letters, content];
    pieces.push(...here);
    place += here.reduce((sum, piece) => sum + piece.length, 0);
  }
  const size = central.reduce((sum, piece) => sum + piece.length, 0);
  return [...pieces, ...central, packed([[4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, place], [2, 0]])];
}
