// Rolling a release out: the form that begins it, and how far each roll-out is.
import { field } from './dialogs.js';
import { h, put, refresh } from './dom.js';
import { globMatches } from './filters.js';
import { dateTime, number } from './format.js';
import { t, word } from './i18n.js';
import { sign } from './marks.js';
import { busy } from './notices.js';
import { fleet } from './plant.js';
import { isEngineer } from './session.js';

const ENDED = new Set(['done', 'failed', 'stopped']);

function matching(target) {
  const cut = target.indexOf('/');
  if (cut < 1) return [];
  const [site, glob] = [target.slice(0, cut), target.slice(cut + 1)];
  return fleet.gateways.filter((gateway) => gateway.site === site && globMatches(glob, gateway.gateway));
}

export function rolloutForm(releases, begin) {
  const release = h('select', { required: true, 'data-test': 'rollout-release' });
  const target = h('input', { type: 'text', required: true, pattern: '[^\\/]+\\/[^\\/]+', spellcheck: 'false', autocomplete: 'off', 'data-test': 'rollout-to', oninput: () => refresh(node) });
  const waves = h('input', { type: 'text', required: true, value: '1,10%,100%', pattern: '\\s*\\d+%?(\\s*,\\s*\\d+%?)*\\s*', 'data-test': 'rollout-waves' });
  const most = h('input', { type: 'number', min: 0, max: 100, step: 'any', value: 10, required: true, 'data-test': 'rollout-failed' });
  const patience = h('input', { type: 'number', min: 1, max: 10080, step: 1, value: 60, required: true, 'data-test': 'rollout-patience' });
  const error = h('p', { class: 'form-error', role: 'alert', hidden: true });
  const match = h('p', { class: 'match', role: 'status', 'data-test': 'rollout-match' }, () => {
    const found = matching(target.value.trim());
    return target.value ? t('rollout.match', { gateways: t('gateways.count', { n: found.length }), online: found.filter(({ online }) => online).length }) : '';
  });
  const node = h('form', {
    class: 'stack', onsubmit: async (event) => {
      event.preventDefault();
      error.hidden = true;
      try {
        await begin({
          release: release.value, to: target.value.trim(), waves: waves.value.replace(/\s/g, ''),
          max_failed: Number(most.value) / 100, patience_minutes: Number(patience.value),
        });
      } catch (problem) {
        put(error, problem.message);
        error.hidden = false;
      }
    },
  },
  field(() => t('rollout.release'), release), field(() => t('rollout.to'), target, () => t('rollout.to.hint')), match,
  h('div', { class: 'field-row' }, field(() => t('rollout.waves'), waves), field(() => t('rollout.most'), most), field(() => t('rollout.patience'), patience)),
  error, h('div', { class: 'form-actions' }, h('button', { class: 'primary', 'data-test': 'rollout-submit' }, () => t('rollout.begin'))));
  return {
    node,
    show() {
      const chosen = release.value;
      put(release, releases().map(({ sha256, name, version, site }) => h('option', { value: sha256 }, `${name} ${version} (${site})`)));
      if (releases().some(({ sha256 }) => sha256 === chosen)) release.value = chosen;
      if (!target.value && fleet.gateways.length) target.value = `${fleet.gateways[0].site}/*`;
      refresh(node);
    },
  };
}

const outcomeSign = { committed: 'good', failed: 'bad' };

export function rolloutRow(rollout, open, stop) {
  const done = rollout.gateways.filter(({ outcome }) => outcome === 'committed').length;
  const failed = rollout.gateways.filter(({ outcome }) => outcome === 'failed').length;
  const kind = rollout.phase === 'done' ? 'good' : rollout.phase === 'failed' ? 'bad' : rollout.phase === 'stopped' ? 'warn' : 'wait';
  return h('details', { class: 'rollout', open, 'data-test': 'rollout-row', 'data-id': rollout.id, 'data-phase': rollout.phase },
    h('summary', null,
      h('span', { class: 'phase' }, sign(kind), () => word('rollout.phase', rollout.phase)),
      h('strong', null, `${rollout.name} ${rollout.version}`), h('span', null, '→ ', rollout.to),
      h('progress', { max: Math.max(1, rollout.of), value: done + failed, 'aria-label': () => t('rollout.progress') }),
      h('span', { class: 'kind' }, () => t('rollout.counts', { done: number(done), failed: number(failed), of: number(rollout.of) })),
      h('span', { class: 'kind' }, () => dateTime(rollout.began_at), ' · ', rollout.by)),
    h('div', { class: 'rollout-body' },
      rollout.error && h('p', { class: 'form-error' }, rollout.error),
      h('p', { class: 'kind' }, () => t('rollout.facts', { waves: rollout.waves, wave: rollout.wave, asked: rollout.asked, of: rollout.of }),
        rollout.ended_at && h('span', null, ' · ', () => t('rollout.ended', { time: dateTime(rollout.ended_at) }))),
      isEngineer() && !ENDED.has(rollout.phase) && h('button', { type: 'button', 'data-test': 'rollout-stop', onclick: busy(stop) }, () => t('rollout.stop')),
      h('ul', { class: 'outcomes' }, rollout.gateways.map(({ gateway, outcome, reason }) => h('li', { 'data-outcome': outcome ?? 'waiting' },
        sign(outcomeSign[outcome] ?? 'wait'), h('span', null, gateway), h('span', { class: 'kind' }, () => t(`outcome.${outcome ?? 'waiting'}`)), reason && h('span', { class: 'camera-reason' }, reason))))));
}
