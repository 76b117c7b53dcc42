{{- define "mlho.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- /* Prefix of all names; at most 40 characters, to leave room for suffixes. */ -}}
{{- define "mlho.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "mlho.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "mlho.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Immutable labels, used in selectors. */ -}}
{{- define "mlho.selector" -}}
app.kubernetes.io/name: mlho-batch
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mlho.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "mlho.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: mlho-batch
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- include "mlho.commonLabels" (dict "root" . "without" dict) }}
{{- end -}}

{{- /* Labels of commonLabels that neither the chart nor .without sets, each on its own line. */ -}}
{{- define "mlho.commonLabels" -}}
{{- $own := list "helm.sh/chart" "mlho.io/schedule" -}}
{{- range list "name" "instance" "version" "component" "part-of" "managed-by" -}}
{{- $own = append $own (print "app.kubernetes.io/" .) -}}
{{- end -}}
{{- range $name, $value := .root.Values.commonLabels }}
{{- if not (or (has $name $own) (hasKey $.without $name)) }}
{{ $name }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* The labels of an object, with those in .more. These take precedence over all but the labels of selectors. */ -}}
{{- define "mlho.labelsAnd" -}}
{{- $all := include "mlho.labels" .root | fromYaml -}}
{{- toYaml (merge (dict) (include "mlho.selector" .root | fromYaml) .more $all) -}}
{{- end -}}

{{- /* Image of "scheduler" or "worker": by digest if one is set. */ -}}
{{- define "mlho.image" -}}
{{- $image := index .root.Values.image .which -}}
{{- $repository := include "mlho.inRegistry" (dict "root" .root "name" $image.repository) -}}
{{- if $image.digest -}}
{{ $repository }}@{{ $image.digest }}
{{- else -}}
{{ $repository }}:{{ default .root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- /* The name of an image, in the registry of global.imageRegistry. The first part of a name is a registry if it has a dot or a port, or is localhost. */ -}}
{{- define "mlho.inRegistry" -}}
{{- $registry := (.root.Values.global).imageRegistry -}}
{{- $parts := splitList "/" .name -}}
{{- if not $registry -}}
{{ .name }}
{{- else if and (gt (len $parts) 1) (regexMatch "[.:]|^localhost$" (first $parts)) -}}
{{ trimSuffix "/" $registry }}/{{ rest $parts | join "/" }}
{{- else -}}
{{ trimSuffix "/" $registry }}/{{ .name }}
{{- end -}}
{{- end -}}

{{- define "mlho.schedulerAccount" -}}
{{- if .Values.scheduler.serviceAccount.name -}}
{{- .Values.scheduler.serviceAccount.name -}}
{{- else if .Values.scheduler.serviceAccount.create -}}
{{- include "mlho.fullname" . }}-scheduler
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- define "mlho.workerAccount" -}}
{{- if .Values.worker.serviceAccount.name -}}
{{- .Values.worker.serviceAccount.name -}}
{{- else if .Values.worker.serviceAccount.create -}}
{{- include "mlho.fullname" . }}-worker
{{- else -}}
default
{{- end -}}
{{- end -}}

{{- /* Watched namespaces, which need not include that of the release, as {"names": [...]}. */ -}}
{{- define "mlho.namespaces" -}}
{{- if .Values.watchNamespaces -}}
names: {{ .Values.watchNamespaces | uniq | sortAlpha | toJson }}
{{- else -}}
names: {{ list .Release.Namespace | toJson }}
{{- end -}}
{{- end -}}

{{- define "mlho.ownRedis" -}}
{{- if not .Values.redis.existingSecret }}true{{ end -}}
{{- end -}}

{{- define "mlho.redisSecret" -}}
{{- default (printf "%s-redis" (include "mlho.fullname" .)) .Values.redis.existingSecret -}}
{{- end -}}

{{- define "mlho.signingSecret" -}}
{{- default (printf "%s-signing" (include "mlho.fullname" .)) .Values.signing.existingSecret -}}
{{- end -}}

{{- /* Environment variables that scheduler and workers both need, as a list for the scheduler's configuration. */ -}}
{{- define "mlho.variables" -}}
- name: MLHO_STORE
  value: {{ .Values.store.uri | quote }}
- name: MLHO_BROKER
  secret: {name: {{ include "mlho.redisSecret" . }}, key: {{ .Values.redis.urlEntry }}}
- name: MLHO_SIGNING_KEY
  secret: {name: {{ include "mlho.signingSecret" . }}, key: {{ .Values.signing.keyEntry }}}
{{- with .Values.pseudonyms.existingSecret }}
- name: MLHO_PSEUDONYM_KEY
  secret: {name: {{ . }}, key: {{ $.Values.pseudonyms.keyEntry }}}
{{- end }}
{{- with .Values.store.endpoint }}
- name: MLHO_S3_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.store.region }}
- name: MLHO_S3_REGION
  value: {{ . | quote }}
{{- end }}
- name: MLHO_S3_ADDRESSING
  value: {{ .Values.store.addressing }}
- name: MLHO_S3_CHECKSUMS
  value: {{ .Values.store.checksums }}
{{- with .Values.store.kmsKey }}
- name: MLHO_S3_SSE_KMS_KEY
  value: {{ . | quote }}
{{- end }}
{{- if .Values.store.existingSecret }}
- name: AWS_ACCESS_KEY_ID
  secret: {name: {{ .Values.store.existingSecret }}, key: {{ .Values.store.accessKeyEntry }}}
- name: AWS_SECRET_ACCESS_KEY
  secret: {name: {{ .Values.store.existingSecret }}, key: {{ .Values.store.secretKeyEntry }}}
{{- end }}
{{- end -}}

{{- /* The same variables and those in the list .extra, as the env of a container. With .storeOnly, without those for Redis, workers and ids of patients. */ -}}
{{- define "mlho.env" -}}
{{- $others := ternary (list "MLHO_BROKER" "MLHO_SIGNING_KEY" "MLHO_PSEUDONYM_KEY") list (default false .storeOnly) -}}
{{- range concat (include "mlho.variables" .root | fromYamlArray) .extra }}
{{- if not (has .name $others) }}
- name: {{ .name }}
  {{- if .secret }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret.name }}
      key: {{ .secret.key }}
  {{- else }}
  value: {{ .value | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- if .root.Values.store.caConfigMap }}
- name: MLHO_S3_CA_BUNDLE
  value: /etc/mlho/ca/ca.crt
{{- end }}
{{- if and .root.Values.redis.caConfigMap (not .storeOnly) }}
- name: MLHO_REDIS_CA
  value: /etc/mlho/redis-ca/ca.crt
{{- end }}
{{- end -}}

{{- /* The same Secrets and the certificates as files, by which the scheduler detects that one was replaced. Each is optional, because those of workers may exist only in other namespaces. */ -}}
{{- define "mlho.secretSources" -}}
{{- range $index, $own := concat (include "mlho.variables" . | fromYamlArray) .Values.scheduler.extraEnv .Values.worker.extraEnv }}
{{- with $own.secret }}
- secret:
    name: {{ .name }}
    optional: true
    items: [{key: {{ .key | quote }}, path: {{ printf "%d-%s" $index $own.name | quote }}}]
{{- end }}
{{- end }}
{{- range $name, $map := dict "store-ca" .Values.store.caConfigMap "redis-ca" .Values.redis.caConfigMap }}
{{- with $map }}
- configMap:
    name: {{ . }}
    optional: true
    items: [{key: ca.crt, path: {{ $name }}}]
{{- end }}
{{- end }}
{{- end -}}

{{- /* Names of the pull Secrets, which may be given as names or as {name: …}, as {"names": [...]}. */ -}}
{{- define "mlho.pullNames" -}}
{{- $names := list -}}
{{- range .Values.image.pullSecrets -}}
{{- if kindIs "map" . }}{{ $names = append $names .name }}{{ else }}{{ $names = append $names . }}{{ end -}}
{{- end -}}
names: {{ $names | uniq | toJson }}
{{- end -}}

{{- define "mlho.pullSecrets" -}}
{{- with (include "mlho.pullNames" . | fromYaml).names }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "mlho.peer" -}}
- namespaceSelector:
    matchLabels:
      kubernetes.io/metadata.name: {{ .namespace }}
  podSelector:
    matchLabels:
      {{- toYaml .labels | nindent 6 }}
{{- end -}}
{{- /* Egress that scheduler and workers both need: to DNS, Redis and object storage. */ -}}
{{- define "mlho.egress" -}}
{{- include "mlho.storeEgress" . }}
{{- $values := .Values.networkPolicy -}}
{{- if include "mlho.ownRedis" . }}
{{- $redis := merge (dict "app.kubernetes.io/component" "redis") (include "mlho.selector" . | fromYaml) }}
- to:
    {{- include "mlho.peer" (dict "namespace" .Release.Namespace "labels" $redis) | nindent 4 }}
  ports:
    - {protocol: TCP, port: 6379}
{{- end }}
{{- with $values.redis.podLabels }}
- to:
    {{- include "mlho.peer" (dict "namespace" (default $.Release.Namespace $values.redis.namespace) "labels" .) | nindent 4 }}
  ports:
    - {protocol: TCP, port: {{ $values.redis.port }}}
{{- end }}
{{- with $values.redis.cidrs }}
- to:
    {{- range . }}
    - ipBlock: {cidr: {{ . }}}
    {{- end }}
  ports:
    - {protocol: TCP, port: {{ $values.redis.port }}}
{{- end }}
{{- end -}}

{{- /* Egress to DNS, to object storage and to the destinations of extraEgress. */ -}}
{{- define "mlho.storeEgress" -}}
{{- $values := .Values.networkPolicy -}}
- to:
    {{- include "mlho.peer" (dict "namespace" $values.dns.namespace "labels" $values.dns.podLabels) | nindent 4 }}
  ports:
    {{- range $values.dns.ports }}
    - {protocol: UDP, port: {{ . }}}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- with $values.s3.cidrs }}
- to:
    {{- range . }}
    - ipBlock:
        cidr: {{ . }}
        {{- if and $values.s3.except (eq . "0.0.0.0/0") }}
        except: {{ toJson $values.s3.except }}
        {{- end }}
    {{- end }}
  ports:
    {{- range $values.s3.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- with $values.s3.podLabels }}
- to:
    {{- include "mlho.peer" (dict "namespace" (default $.Release.Namespace $values.s3.namespace) "labels" .) | nindent 4 }}
  ports:
    {{- range $values.s3.podPorts }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
{{- with $values.extraEgress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Placement of all pods but those of workers. */ -}}
{{- define "mlho.placement" -}}
{{- with .Values.scheduler.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.scheduler.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.scheduler.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- /* Whether the run of `helm test` may read the cohort that it creates in the store. */ -}}
{{- define "mlho.mayTest" -}}
{{- $allowed := not .Values.store.prefixes -}}
{{- range get .Values.store.prefixes (first (include "mlho.namespaces" . | fromYaml).names) | default list -}}
{{- if hasPrefix (print (trimSuffix "/" .) "/") (print (trimSuffix "/" $.Values.store.uri) "/helm-test/") }}{{ $allowed = true }}{{ end -}}
{{- end -}}
{{- if $allowed }}true{{ end -}}
{{- end -}}

{{- /* Refuse combinations of values that Kubernetes accepts but that cannot work. */ -}}
{{- define "mlho.check" -}}
{{- $named := list (list "redis" "urlEntry" "url") (list "signing" "keyEntry" "key") (list "pseudonyms" "keyEntry" "key") -}}
{{- $named = concat $named (list (list "store" "accessKeyEntry" "AWS_ACCESS_KEY_ID") (list "store" "secretKeyEntry" "AWS_SECRET_ACCESS_KEY")) -}}
{{- range $named -}}
{{- $part := index $.Values (first .) -}}
{{- $entry := index . 1 -}}
{{- if and (not $part.existingSecret) (ne (index $part $entry) (last .)) -}}
{{- fail (printf "%[1]s.%[2]s=%[3]s names an entry of %[1]s.existingSecret, which is empty. Set the Secret, or remove %[1]s.%[2]s." (first .) $entry (index $part $entry)) -}}
{{- end -}}
{{- end -}}
{{- $own := list "MLHO_CACHE_DIR" "MLHO_CACHE_BYTES" -}}
{{- range include "mlho.variables" . | fromYamlArray }}{{ $own = append $own .name }}{{ end -}}
{{- if .Values.store.caConfigMap }}{{ $own = append $own "MLHO_S3_CA_BUNDLE" }}{{ end -}}
{{- if .Values.redis.caConfigMap }}{{ $own = append $own "MLHO_REDIS_CA" }}{{ end -}}
{{- range $which, $more := dict "scheduler" (list "POD_NAME") "worker" (list "HOME" "MLHO_IMAGE") -}}
{{- $names := concat $own $more -}}
{{- range (index $.Values $which).extraEnv -}}
{{- if has .name $names -}}
{{- fail (printf "%s.extraEnv: %s is given twice, or the chart sets it. Kubernetes refuses workers with it. Remove it, and set the chart's value if there is one." $which .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
{{- $budget := .Values.podDisruptionBudget -}}
{{- if and $budget.enabled (gt (int .Values.scheduler.replicas) 1) (eq (toString $budget.maxUnavailable) "") -}}
{{- $minimum := toString $budget.minAvailable -}}
{{- if or (eq $minimum "100%") (and (not (hasSuffix "%" $minimum)) (ge (int $minimum) (int .Values.scheduler.replicas))) -}}
{{- fail (printf "podDisruptionBudget.minAvailable=%s with scheduler.replicas=%v forbids every eviction, so that no node of a scheduler can be drained. Give less than the replicas, or podDisruptionBudget.maxUnavailable=1." $minimum .Values.scheduler.replicas) -}}
{{- end -}}
{{- end -}}
{{- $watched := (include "mlho.namespaces" . | fromYaml).names -}}
{{- $places := dict -}}
{{- $schedules := list -}}
{{- range .Values.schedules -}}
{{- if has .name $schedules -}}
{{- fail (printf "schedules: two have the name %s. Give each its own." .name) -}}
{{- end -}}
{{- $schedules = append $schedules .name -}}
{{- $_ := set $places (default $.Release.Namespace .namespace) (print "the schedule " .name) -}}
{{- end -}}
{{- range $namespace, $_ := .Values.store.prefixes }}{{ $_ := set $places $namespace "store.prefixes" }}{{ end -}}
{{- range $namespace, $place := $places -}}
{{- if not (or $.Values.rbac.clusterWide (has $namespace $watched)) -}}
{{- fail (printf "%s names the namespace %s, whose runs this release does not carry out. Expected one of: %s. Add it to watchNamespaces, or name another." $place $namespace (join ", " $watched)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
