{{/* In a rule, an empty list of peers or ports would mean all of them: without one there is no rule. */}}
{{- define "longreach.dnsEgress" -}}
{{- $dns := .Values.networkPolicy.dns -}}
{{- if and $dns.peers $dns.ports }}
- to:
    {{- toYaml $dns.peers | nindent 4 }}
  ports:
    {{- range $dns.ports }}
    - {port: {{ . | int64 }}, protocol: UDP}
    - {port: {{ . | int64 }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end -}}

{{/* (dict "to" .Values.networkPolicy.apiServer) */}}
{{- define "longreach.cidrEgress" -}}
{{- if and .to.cidrs .to.ports }}
- to:
    {{- range .to.cidrs }}
    - ipBlock: {cidr: {{ . | quote }}}
    {{- end }}
  ports:
    {{- range .to.ports }}
    - {port: {{ . | int64 }}}
    {{- end }}
{{- end }}
{{- end -}}

{{/* Stores of this release by their pods; those elsewhere by the port of their address, to anywhere. */}}
{{- define "longreach.redisEgress" -}}
{{- $root := .root -}}
{{- range $role := .roles }}
{{- $of := dict "root" $root "role" $role }}
{{- $external := (index $root.Values.redis $role).external }}
{{- if include "longreach.redis.isOwn" $of }}
- to: [{podSelector: {matchLabels: {{ include "longreach.selectorLabels" (dict "root" $root "component" (printf "redis-%s" $role)) | fromYaml | toJson }}}}]
  ports: [{port: 6379}]
{{- else if $external.url }}
- ports: [{port: {{ regexFind ":[0-9]+$" (urlParse $external.url).host | trimPrefix ":" | default "6379" }}}]
{{- end }}
{{- end }}
{{- end -}}

{{/* Static endpoints by the ports of their addresses, to anywhere. */}}
{{- define "longreach.endpointEgress" -}}
{{- $ports := dict -}}
{{- range .Values.config.pools -}}
{{- range .endpoints -}}
{{- $default := ternary "443" "80" (hasPrefix "https:" .url) -}}
{{- $host := (urlParse .url).host -}}
{{- $_ := set $ports (regexFind ":[0-9]+$" $host | trimPrefix ":" | default $default) true -}}
{{- end -}}
{{- end -}}
{{- if $ports }}
- ports:
    {{- range keys $ports | sortAlpha }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}

{{/* Where models and tokenizers come from, and where telemetry goes. */}}
{{- define "longreach.sourceEgress" -}}
{{- include "longreach.cidrEgress" (dict "to" .Values.networkPolicy.modelSources) }}
{{- if .Values.otel.endpoint }}
- ports: [{port: {{ regexFind ":[0-9]+$" (urlParse .Values.otel.endpoint).host | trimPrefix ":" | default "4317" }}}]
{{- end }}
{{- end -}}
