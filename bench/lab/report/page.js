'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const charts = [];
const SURE = 0.05;

function element(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    for (const child of children) if (child !== null && child !== undefined) node.append(child);
    return node;
}

function number(value) {
    if (value === null || value === undefined) return '–';
    const size = Math.abs(value);
    return value.toLocaleString('en', {
        minimumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : 2,
        maximumFractionDigits: size >= 100 ? 0 : size >= 10 ? 1 : 2
    });
}

const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = () => document.documentElement.dataset.theme === 'dark';

/* Colours that the colour-blind tell apart (Okabe and Ito); ours come first. */
const PALETTE = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#d55e00', '#56b4e9', '#8c8c3a',
    '#7f7f7f', '#a05fd0', '#5b3a1e'];
const colorOf = index => PALETTE[index % PALETTE.length];

function ratioBadge(versus, lowIsGood) {
    if (!versus) return null;
    const sure = versus.p < SURE;
    const better = lowIsGood ? versus.ratio < 1 : versus.ratio > 1;
    const kind = !sure || Math.abs(versus.ratio - 1) < 0.005 ? '' : better ? ' good' : ' bad';
    if (lowIsGood === null || lowIsGood === undefined) return null;
    const badge = element('span', {class: 'ratio' + kind}, '×' + number(versus.ratio));
    badge.title = `p ${number(versus.p)}, Cliff's delta ${number(versus.delta)}`
        + (sure ? '' : ': may be chance');
    return badge;
}

function figure(row, column, baseline) {
    const stats = row.stats[column.metric];
    if (!stats) return element('td', {}, '–');
    const cell = element('td', {}, number(stats.median * column.scale));
    cell.title = `${stats.n} runs: quartiles ${number(stats.q1 * column.scale)} to `
        + `${number(stats.q3 * column.scale)}, extremes ${number(stats.min * column.scale)} to `
        + `${number(stats.max * column.scale)}`;
    if (stats.n > 1) {
        const spread = Math.max(stats.q3 - stats.median, stats.median - stats.q1) * column.scale;
        cell.append(' ', element('small', {}, '±' + number(spread)));
    }
    if (row.label !== baseline)
        cell.append(ratioBadge(row.versus[column.metric], column.low_is_good) || '');
    return cell;
}

function columnsOf(scenario) {
    return data.columns.filter(c => scenario.rows.some(row => row.stats[c.metric]));
}

function scenarioTable(scenario) {
    const columns = columnsOf(scenario);
    const head = element('tr', {}, element('th', {}, 'row'), element('th', {}, 'runs'),
        ...columns.map(c => element('th', {}, c.heading)));
    const rows = scenario.rows.map(row => {
        const classes = [row.kind, row.label === scenario.baseline ? 'baseline' : ''].join(' ');
        const line = element('tr', {class: classes}, element('td', {}, row.label));
        if (row.n === 0) {
            line.append(element('td', {colspan: columns.length + 1, class: 'text'},
                (row.missing ? 'skipped: ' : row.failed ? 'failed: ' : 'not run ') + row.error));
            return line;
        }
        line.append(element('td', {}, row.n + (row.failed ? ` (${row.failed} failed)` : '')));
        columns.forEach(c => line.append(figure(row, c, scenario.baseline)));
        return line;
    });
    return element('div', {class: 'scroll'}, element('table', {}, element('thead', {}, head),
        element('tbody', {}, ...rows)));
}

function targetTable() {
    const all = data.scenarios.flatMap(s => s.targets.map(t => ({...t, scenario: s.name})));
    if (all.length === 0) return;
    const met = all.filter(t => t.verdict === 'met').length;
    const head = element('tr', {}, ...['scenario', 'target', 'issue', 'asked', 'measured', '']
        .map((word, i) => element('th', {class: i < 3 ? 'text' : ''}, word)));
    const rows = all.map(t => element('tr', {}, element('td', {class: 'text'}, t.scenario),
        element('td', {class: 'text'}, t.text), element('td', {class: 'text'}, t.issue),
        element('td', {}, t.asked), element('td', {}, number(t.value)),
        element('td', {}, element('span', {
            class: 'ratio ' + (t.verdict === 'met' ? 'good' : t.verdict === 'missed' ? 'bad' : '')
        }, t.verdict + (t.failed ? ` (${t.failed} of ${t.failed + t.n} failed)` : '')))));
    document.getElementById('targets').append(element('h2', {}, `Targets: ${met} of ${all.length} met`),
        element('div', {class: 'scroll'}, element('table', {}, element('thead', {}, head),
            element('tbody', {}, ...rows))));
}

/* The best row of ours in each scenario beside its baseline. */
function overview() {
    const metrics = ['total_ms', 'downtime_ms', 'blackout_ms', 'cpu_s', 'link_bytes', 'wire_bytes'];
    const columns = data.columns.filter(c => metrics.includes(c.metric));
    const lines = [];
    for (const scenario of data.scenarios) {
        for (const row of scenario.rows) {
            if (row.kind !== 'godwit' || !row.versus.total_ms || row.label === scenario.baseline)
                continue;
            const line = element('tr', {class: 'godwit'}, element('td', {}, row.label),
                element('td', {class: 'text'}, scenario.name),
                element('td', {class: 'text'}, scenario.baseline));
            for (const c of columns)
                line.append(element('td', {}, ratioBadge(row.versus[c.metric], c.low_is_good) || '–'));
            lines.push(line);
        }
    }
    if (lines.length === 0) return;
    const head = element('tr', {}, ...['row', 'scenario', 'against'].map(w =>
        element('th', {class: 'text'}, w)), ...columns.map(c => element('th', {}, c.heading)));
    document.getElementById('overview').append(element('h2', {}, 'Overview'),
        element('p', {class: 'about'}, 'Ratios of medians to the fastest of QEMU\'s own migrations '
            + 'with private memory. Coloured where chance alone would do as much in less than one '
            + 'of twenty cases (permutation test).'),
        element('div', {class: 'scroll'}, element('table', {}, element('thead', {}, head),
            element('tbody', {}, ...lines))));
}

function axisStyle(name) {
    return {
        name, nameLocation: 'middle', nameGap: 28,
        nameTextStyle: {color: color('--faint')}, axisLabel: {color: color('--faint')},
        axisLine: {lineStyle: {color: color('--line')}}, splitLine: {lineStyle: {color: color('--line')}}
    };
}

function base() {
    return {
        animation: false, backgroundColor: 'transparent', textStyle: {fontFamily: 'inherit'},
        grid: {left: 62, right: 20, top: 30, bottom: 46},
        tooltip: {trigger: 'item', confine: true, backgroundColor: color('--card'),
            borderColor: color('--line'), textStyle: {color: color('--ink')}},
        legend: {type: 'scroll', top: 0, textStyle: {color: color('--ink')}}
    };
}

function addChart(parent, title, option, note, height) {
    const box = element('div', {class: 'chart'});
    if (height) box.style.height = height + 'px';
    parent.append(element('div', {}, element('h3', {}, title),
        note ? element('p', {class: 'about'}, note) : null, box));
    const chart = echarts.init(box);
    charts.push({chart, option});
    chart.setOption(option());
}

/* Every migration of ours that was foretold after its first round. */
function forecastChart() {
    const lines = data.scenarios.map(scenario => ({name: scenario.name, type: 'scatter', symbolSize: 8,
        data: scenario.rows.filter(row => row.kind === 'godwit').flatMap(row => {
            const foretold = row.stats['prediction.total_ms.mid'];
            const actual = row.stats.total_ms;
            if (!foretold || !actual || foretold.n !== actual.n) return [];
            return foretold.values.map((value, i) => [value, actual.values[i]])
                .filter(([x, y]) => x > 0 && y > 0);
        })})).filter(line => line.data.length > 0);
    if (lines.length === 0) return;
    const all = lines.flatMap(line => line.data.flat());
    const ends = [Math.min(...all), Math.max(...all)].map(v => [v, v]);
    const holder = element('div', {class: 'charts'});
    document.getElementById('overview').append(holder);
    addChart(holder, 'Total time: foretold after the first round, and what it was', () => ({
        ...base(), xAxis: {type: 'log', ...axisStyle('foretold, ms'), splitLine: {show: false}},
        yAxis: {type: 'log', ...axisStyle('actual, ms'), nameGap: 46},
        series: [...lines.map((line, i) => ({...line, itemStyle: {color: colorOf(i), opacity: 0.8}})),
            {name: 'as foretold', type: 'line', showSymbol: false, data: ends, silent: true,
                lineStyle: {type: 'dashed', width: 1, color: color('--faint')}}]
    }), 'A point above the line took longer than foretold. What is said before the start is held '
        + 'against migrations by ./dev bench prediction.', 380);
}

const ran = scenario => scenario.rows.filter(row => row.n > 0);
// Rows of one scenario often differ in their ends only.
const short = label => label.length > 30 ? label.slice(0, 10) + '…' + label.slice(-19) : label;

function categories(rows) {
    return {type: 'category', inverse: true, data: rows.map(row => short(row.label)),
        axisLabel: {color: color('--ink'), width: 170, overflow: 'truncate'},
        axisLine: {lineStyle: {color: color('--line')}}, axisTick: {show: false}};
}

function barChart(parent, scenario) {
    const columns = columnsOf(scenario);
    const rows = ran(scenario);
    const having = () => rows.filter(row => row.stats[chosen().metric]);
    if (columns.length === 0 || rows.length === 0) return;
    const select = element('select', {'aria-label': 'metric of bars and boxes'},
        ...columns.map(c => element('option', {value: c.metric}, c.heading)));
    const chosen = () => columns.find(c => c.metric === select.value);
    const height = Math.max(200, 80 + 34 * rows.length);
    const tools = element('div', {class: 'tools'}, 'Bars and boxes of', select);
    parent.before(tools);
    const stats = (row, c) => row.stats[c.metric];
    addChart(parent, 'Medians', () => ({
        ...base(), legend: undefined, grid: {left: 190, right: 70, top: 8, bottom: 46},
        xAxis: {type: 'value', ...axisStyle(chosen().heading)}, yAxis: categories(having()),
        series: [{
            type: 'bar', barMaxWidth: 22,
            label: {show: true, position: 'right', color: color('--ink'),
                formatter: p => number(p.value)},
            data: having().map(row => ({
                value: stats(row, chosen()).median * chosen().scale,
                itemStyle: {color: row.kind === 'godwit' ? color('--ours') : dark() ? '#5d6b7a' : '#b4bec9'}
            }))
        }]
    }), null, height);
    addChart(parent, 'Spread: quartiles, extremes and every run', () => ({
        ...base(), legend: undefined, grid: {left: 190, right: 20, top: 8, bottom: 46},
        xAxis: {type: 'value', scale: true, ...axisStyle(chosen().heading)}, yAxis: categories(having()),
        series: [{
            type: 'boxplot', itemStyle: {color: 'transparent', borderColor: color('--faint')},
            data: having().map(row => {
                const s = stats(row, chosen());
                return [s.min, s.q1, s.median, s.q3, s.max].map(v => v * chosen().scale);
            })
        }, {
            type: 'scatter', symbolSize: 7,
            itemStyle: {color: p => having()[p.value[1]].kind === 'godwit' ? color('--ours') : '#e69f00', opacity: 0.75},
            data: having().flatMap((row, i) => stats(row, chosen()).values
                .map(v => [v * chosen().scale, i]))
        }]
    }), null, height);
    select.addEventListener('change', redraw);
}

function lineChart(parent, title, note, axes, lines) {
    if (lines.length === 0) return;
    addChart(parent, title, () => ({
        ...base(), tooltip: {...base().tooltip, trigger: 'axis', valueFormatter: number},
        xAxis: {type: axes.xType || 'value', ...axisStyle(axes.x), min: axes.xMin, scale: true,
            splitLine: {show: false}},
        yAxis: {type: 'value', ...axisStyle(axes.y), nameGap: 46, max: axes.yMax},
        series: lines.map(line => ({type: 'line', showSymbol: !!axes.symbols, symbolSize: 6, step: axes.step,
            lineStyle: {width: 1.6, color: line.color}, itemStyle: {color: line.color}, ...line}))
    }), note);
}

/* What was watched before the request ends at 0, wherever it ended, and is apart from what follows. */
function paceOf(pace) {
    const first = pace.findIndex(point => point[0] > 0);
    if (first <= 0) return pace;
    const shift = pace[first - 1][0];
    return [...pace.slice(0, first).map(([x, y]) => [x - shift, y]), [0, null], ...pace.slice(first)];
}

/* A guest's pace around its move; the pause is shaded. */
function paceChart(parent, scenario) {
    const rows = scenario.rows.map((row, i) => [row, i])
        .filter(([row]) => (row.series.pace || []).length > 2);
    const lines = rows.map(([row, i]) => ({
        name: row.label, data: paceOf(row.series.pace), color: colorOf(i),
        markArea: row.series.blackout ? {silent: true, itemStyle: {color: colorOf(i), opacity: 0.25},
            data: [[{xAxis: row.series.blackout[0]}, {xAxis: row.series.blackout[1]}]]} : undefined
    }));
    const client = scenario.rows.some(row => row.stats.client_blackout_ms);
    lineChart(parent, client ? 'Blackout timeline: what the client is answered'
        : 'Blackout timeline: the guest\'s own pace', 'Of the run with the median time; 0 is the request, '
        + `left of it is what came before${client ? '' : '; shaded is the pause'}.`,
    {x: 'ms', y: client ? 'answers per ms' : 'turns per ms'}, lines);
}

function stallChart(parent, scenario) {
    const rows = scenario.rows.map((row, i) => [row, i])
        .filter(([row]) => (row.series.stalls || []).length > 0);
    if (rows.length === 0) return;
    addChart(parent, 'When the guest stood still, and for how long', () => ({
        ...base(), xAxis: {type: 'value', ...axisStyle('ms since the request'), splitLine: {show: false}},
        yAxis: {type: 'log', ...axisStyle('length, ms'), nameGap: 46},
        series: rows.map(([row, i]) => ({name: row.label, type: 'scatter', symbolSize: 6,
            itemStyle: {color: colorOf(i), opacity: 0.8},
            data: row.series.stalls.filter(s => s[1] > 0)}))
    }));
}

/* Rounds as steps: each figure holds for as long as its round lasts. */
function roundCharts(parent, scenario) {
    const rows = scenario.rows.map((row, i) => [row, i])
        .filter(([row]) => (row.series.rounds || []).length > 0);
    const steps = (round, value) => [[round.begin_ms, value], [round.begin_ms + round.ms, value]];
    const of = (key, scale) => rows.filter(([row]) => row.series.rounds.some(r => key in r))
        .map(([row, i]) => ({name: row.label, color: colorOf(i),
            data: row.series.rounds.flatMap(r => steps(r, (r[key] || 0) * scale))}));
    const counts = rows.filter(([row]) => row.series.rounds.some(r => 'dirty_pages' in r))
        .flatMap(([row, i]) => [
            {name: row.label + ' dirty', color: colorOf(i), lineStyle: {type: 'dashed', width: 1.6, color: colorOf(i)},
                data: row.series.rounds.flatMap(r => steps(r, r.dirty_pages))},
            {name: row.label + ' sent', color: colorOf(i),
                data: row.series.rounds.flatMap(r => steps(r, r.sent_pages))}]);
    lineChart(parent, 'Rounds: pages to look at, and sent', null, {x: 'ms', y: 'pages', symbols: true}, counts);
    lineChart(parent, 'Rounds: rate of page bytes', null, {x: 'ms', y: 'MiB/s', symbols: true},
        of('bytes_per_s', 1 / (1 << 20)));
    lineChart(parent, 'Rounds: r, what is written over what is sent', null, {x: 'ms', y: 'r', symbols: true},
        of('r', 1));
    lineChart(parent, 'Rounds: how long each took', null, {x: 'ms', y: 'ms', symbols: true},
        rows.length > 0 && rows.some(([row]) => row.series.rounds.length > 1) ? of('ms', 1) : []);
}

function latencyChart(parent, scenario) {
    const lines = scenario.rows.map((row, i) => [row, i])
        .filter(([row]) => (row.series.latency_us || []).length > 0)
        .map(([row, i]) => ({name: row.label, color: colorOf(i), data: row.series.latency_us}));
    lineChart(parent, 'Fault latency: share of faults served within', null,
        {x: 'µs', xType: 'log', y: 'share', yMax: 1, symbols: true}, lines);
}

function drawScenario(scenario) {
    const setting = scenario.setting || {};
    const link = setting.link_bytes_per_s ? `${number(setting.link_bytes_per_s * 8 / 1e9)} Gb/s` : 'no limit';
    const delay = setting.link_delay_ms ? `, ${number(setting.link_delay_ms)} ms each way` : '';
    const holder = element('div', {class: 'charts'});
    const section = element('section', {id: scenario.name}, element('h2', {}, scenario.name),
        element('p', {class: 'about'}, `${scenario.about} (${setting.accel || '?'}, ${link}${delay})`),
        scenarioTable(scenario), holder);
    document.getElementById('scenarios').append(section);
    barChart(holder, scenario);
    paceChart(holder, scenario);
    stallChart(holder, scenario);
    roundCharts(holder, scenario);
    latencyChart(holder, scenario);
}

function redraw() {
    for (const {chart, option} of charts) chart.setOption(option(), true);
}

function setTheme(theme) {
    document.documentElement.dataset.theme = theme;
    redraw();
}

const wanted = new URLSearchParams(location.search).get('theme');
setTheme(wanted || (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light'));
document.getElementById('theme').addEventListener('click', () => setTheme(dark() ? 'light' : 'dark'));
window.addEventListener('resize', () => charts.forEach(({chart}) => chart.resize()));

const s = data.setting || {};
document.getElementById('setting').textContent =
    `Godwit ${s.git}, QEMU ${s.qemu}, kernel ${s.kernel}, ${s.cpus} × ${s.cpu}, load ${number(s.load)}, `
    + `seed ${s.seed}, ${s.unix_s ? new Date(s.unix_s * 1000).toISOString().slice(0, 16).replace('T', ' ') + ' UTC' : ''}`;
targetTable();
overview();
forecastChart();
data.scenarios.forEach(drawScenario);
charts.forEach(({chart}) => chart.resize());
document.body.dataset.charts = String(charts.length);
