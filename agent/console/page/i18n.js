// Every word of the page in the language chosen; a language chosen is shown at once, with nothing loaded again.
import { refresh } from './dom.js';
import en from './en.js';
import { prefs } from './prefs.js';
import zh from './zh.js';

export const dictionaries = { en, zh };
export const languages = { en: 'English', zh: '中文' };

const preferred = () => ((navigator.language ?? '').toLowerCase().startsWith('zh') ? 'zh' : 'en');

export const lang = () => {
  const chosen = prefs.get('lang');
  return chosen in dictionaries ? chosen : preferred();
};

export const locale = () => (lang() === 'zh' ? 'zh-CN' : 'en-GB');

// The words for `key`, `{name}` filled in; of `one|other` the one that fits `args.n`.
export function t(key, args) {
  let words = dictionaries[lang()][key] ?? en[key] ?? key;
  if (args && 'n' in args && words.includes('|')) {
    const [one, other] = words.split('|');
    words = Number(args.n) === 1 ? one : other;
  }
  return args ? words.replace(/\{(\w+)\}/g, (whole, name) => args[name] ?? whole) : words;
}

// The words for what the server names, or the name itself where there are none.
export function word(family, name) {
  const key = `${family}.${name}`;
  return key in en ? t(key) : String(name ?? '');
}

// For tests: keys that one dictionary lacks, and keys whose places to fill in differ.
export function differences() {
  const places = (words) => [...new Set(words.match(/\{\w+\}/g) ?? [])].sort().join();
  const keys = new Set([...Object.keys(en), ...Object.keys(zh)]);
  return [...keys].filter((key) => !en[key] || !zh[key] || places(en[key]) !== places(zh[key]));
}

function apply() {
  document.documentElement.lang = lang() === 'zh' ? 'zh-CN' : 'en';
  refresh(document.documentElement);
}

prefs.on((name) => name === 'lang' && apply());
apply();
