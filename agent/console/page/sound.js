// Beeps for what is critical, if that is switched on; the switch itself is what lets the browser make a sound.
import { prefs } from './prefs.js';

const TONES = [[880, 0], [660, 0.22], [880, 0.44]];
const LENGTH = 0.18;
let context = null;

export const isOn = () => prefs.get('sound', false);

function wake() {
  context ??= new AudioContext();
  if (context.state === 'suspended') context.resume().catch(() => {});
}

export function beep() {
  if (!isOn()) return;
  wake();
  for (const [pitch, after] of TONES) {
    const start = context.currentTime + after;
    const tone = context.createOscillator();
    const volume = context.createGain();
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0, start);
    volume.gain.linearRampToValueAtTime(0.25, start + 0.02);
    volume.gain.linearRampToValueAtTime(0, start + LENGTH);
    tone.connect(volume).connect(context.destination);
    tone.start(start);
    tone.stop(start + LENGTH);
  }
}

export function toggle() {
  prefs.set('sound', !isOn());
  beep();
}

// A page that was loaded with the sound on may beep only after the first press.
addEventListener('pointerdown', () => isOn() && wake());
addEventListener('keydown', () => isOn() && wake());
